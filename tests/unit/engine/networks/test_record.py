"""What Records keep beside the rows: who is attached, which addresses are in use, who is judged."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from skiff.engine.networks.record import Endpoint, Records
from skiff.engine.storage.state import MemoryState

NETWORKS = ("one", "two")


def endpoint(number: int, *, attached: bool, egress: str) -> Endpoint:
    bare = Endpoint(
        id=f"e{number}", network=NETWORKS[number % 2], owner=f"o{number}", owner_name="c", egress=egress
    )
    if not attached:
        return bare
    six = f"fd00::{number + 2:x}/64" if number % 3 else ""
    return replace(bare, interface="eth0", link=f"veth{number}", ipv4=f"10.0.0.{number + 2}/24", ipv6=six)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["put", "attach", "delete"]), st.booleans())))
def test_the_indexes_say_what_the_rows_say(steps: list[tuple[int, str, bool]]) -> None:
    state = MemoryState()
    records = Records(state)
    for number, act, judged in steps:
        if act == "delete":
            records.delete_endpoint(f"e{number}")
        else:
            egress = "none" if judged else ""
            records.put_endpoint(endpoint(number, attached=act == "attach", egress=egress))
    for kept in (records, Records(state)):
        attached = [e for e in kept.endpoints.values() if e.is_attached]
        assert sorted(e.id for e in kept.attached()) == sorted(e.id for e in attached)
        assert sorted(e.id for e in kept.policed()) == sorted(e.id for e in attached if e.egress)
        assert set(kept.in_use()) == {e.network for e in attached}
        for network in NETWORKS:
            for version in (4, 6):
                wanted = {
                    int(a)
                    for e in attached
                    if e.network == network
                    for a in e.addresses()
                    if a.version == version
                }
                assert set(kept.taken(network, version)) == wanted  # type: ignore[call-overload]
