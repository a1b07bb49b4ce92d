from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.networks.ipam import (
    DEFAULT_POOLS,
    Pool,
    complete,
    mac_for,
    next_subnet,
    overlap,
    reserve,
    unique_local,
)
from skiff.errors import Conflict, Forbidden, InvalidParameter


def test_subnets_come_from_the_pools_in_order() -> None:
    taken: list[IPv4Network | IPv6Network] = []
    for expected in ("172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/16", "172.21.0.0/16"):
        subnet = next_subnet(DEFAULT_POOLS, taken)
        assert str(subnet) == expected
        taken.append(subnet)


def test_subnets_avoid_the_routes_of_the_host() -> None:
    assert str(next_subnet(DEFAULT_POOLS, [ip_network("172.16.0.0/12")])) == "192.168.0.0/20"


def test_a_small_network_in_the_way_costs_one_subnet_only() -> None:
    pool = Pool(ip_network("10.0.0.0/8"), 24)
    assert str(next_subnet([pool], [ip_network("10.0.0.77/32")])) == "10.0.1.0/24"


def test_exhausted_pools_say_so_in_dockers_words() -> None:
    with pytest.raises(Conflict, match="all predefined address pools have been fully subnetted"):
        next_subnet(DEFAULT_POOLS, [ip_network("172.16.0.0/12"), ip_network("192.168.0.0/16")])


def test_stepping_over_a_large_network_is_not_done_one_by_one() -> None:
    pool = Pool(IPv6Network("fd00::/8"), 64)
    assert next_subnet([pool], [IPv6Network("fd00::/9")], version=6) == IPv6Network("fd80::/64")


def test_unique_local_pools_differ_by_engine() -> None:
    one, other = unique_local("aaaaaaa"), unique_local("bbbbbbb")
    assert one.base != other.base
    assert one.base.subnet_of(IPv6Network("fd00::/8"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10.0.0.0",), "invalid subnet 10.0.0.0"),
        (
            ("10.0.0.0/8", "11.0.0.1"),
            "invalid gateway 11.0.0.1: parent subnet 10.0.0.0/8 doesn't contain this address",
        ),
        (
            ("10.0.0.0/24", "", "10.0.1.0/25"),
            "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain",
        ),
        (
            ("10.0.0.0/24", "", "", ("10.9.9.9",)),
            "invalid auxiliary address 10.9.9.9: parent subnet 10.0.0.0/24",
        ),
        (("10.0.0.0/24", "nonsense"), "invalid gateway address nonsense"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        complete(*arguments)


def test_the_gateway_is_the_first_address_by_default() -> None:
    assert str(complete("10.5.0.0/24").gateway) == "10.5.0.1"


def test_addresses_follow_the_last_one_and_come_round() -> None:
    scope = complete("10.5.0.0/29")
    taken: set[int] = set()
    given_out = []
    for _ in range(5):
        last = reserve(scope, taken)
        taken.add(int(last))
        given_out.append(str(last))
    assert given_out == ["10.5.0.2", "10.5.0.3", "10.5.0.4", "10.5.0.5", "10.5.0.6"]
    taken.remove(int(ip_address("10.5.0.3")))
    assert str(reserve(scope, taken)) == "10.5.0.3"
    taken.add(int(ip_address("10.5.0.3")))
    with pytest.raises(Conflict, match="no available IPv4 addresses on this network's address pools"):
        reserve(scope, taken)


def test_a_wish_is_granted_unless_taken_or_outside() -> None:
    scope = complete("10.5.0.0/24", auxiliary=["10.5.0.9"])
    assert str(reserve(scope, [], wish=ip_address("10.5.0.77"))) == "10.5.0.77"
    for wish in ("10.5.0.77", "10.5.0.1", "10.5.0.9", "10.5.0.0", "10.5.0.255"):
        with pytest.raises(Forbidden, match="Address already in use"):
            reserve(scope, [int(ip_address("10.5.0.77"))], wish=ip_address(wish))
    with pytest.raises(InvalidParameter, match="does not belong"):
        reserve(scope, [], wish=ip_address("10.6.0.1"))


def test_the_mac_address_spells_the_address() -> None:
    assert mac_for(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"


@given(
    st.integers(0, 2**32 - 1),
    st.integers(8, 30),
    st.integers(0, 2**32 - 1),
    st.integers(8, 30),
)
def test_overlap_agrees_with_ipaddress(a: int, a_len: int, b: int, b_len: int) -> None:
    one = ip_network((a, a_len), strict=False)
    other = ip_network((b, b_len), strict=False)
    assert overlap(one, other) == one.overlaps(other)


@given(st.integers(24, 30), st.data())
def test_reserved_addresses_are_usable_and_free(length: int, data: st.DataObject) -> None:
    scope = complete(f"10.5.0.0/{length}")
    hosts = [h for h in scope.subnet.hosts() if h != scope.gateway]
    taken = data.draw(st.lists(st.sampled_from(hosts), unique=True, max_size=len(hosts) - 1))
    address = reserve(scope, {int(a) for a in taken})
    assert address in hosts
    assert address not in taken
