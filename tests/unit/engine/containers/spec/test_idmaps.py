import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.containers.spec.idmaps import ALL_IDS, IdMaps, idmaps
from skiff.oci.runtime import IdMapping

IDS = st.integers(0, ALL_IDS - 1)


def shown(maps: tuple[IdMapping, ...], id: int) -> int | None:
    found = [one.host_id + id - one.container_id for one in maps if 0 <= id - one.container_id < one.size]
    assert len(found) <= 1
    return found[0] if found else None


@given(IDS, IDS, IDS)
def test_owner_and_user_meet_and_others_stay(owner: int, user: int, other: int) -> None:
    maps = idmaps((owner, 5), (user, 6)).uids
    assert shown(maps, owner) == user
    if owner != user:
        assert shown(maps, user) is None
    if other not in (owner, user):
        assert shown(maps, other) == other


@pytest.mark.parametrize(("owner", "user"), [((1000, 1000), (0, 0)), ((1000, 5), (0, 5))])
def test_the_hosts_root_has_no_counterpart(owner: tuple[int, int], user: tuple[int, int]) -> None:
    assert shown(idmaps(owner, user).uids, 0) is None


def test_nothing_is_shifted_where_they_are_the_same() -> None:
    assert idmaps((1000, 100), (1000, 100)) == IdMaps()
