from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from skiff.engine.networks.firewall import EMPTY, difference, whole
from skiff.engine.networks.ruleset import CHAINS, SETS, Published, Wall, ruleset
from skiff.linux.nftables import Element, ifname

V4 = IPv4Network("172.18.0.0/16")
V6 = IPv6Network("fd00:1::/64")
WEB = Published("tcp", IPv4Address(0), 8080, IPv4Address("172.18.0.2"), 80)


def test_nothing_asked_is_the_empty_firewall() -> None:
    assert ruleset((), ()) == EMPTY
    assert not any(EMPTY.members.values())


def test_a_network_is_masqueraded_and_speaks_within() -> None:
    members = ruleset([Wall("br0", (V4, V6))], ()).members
    assert members["bridges"] == {Element(ifname("br0"))}
    assert members["within"] == {Element(ifname("br0") * 2)}
    assert members["masq4"] == members["nets4"] == {Element(V4.network_address.packed, end=b"\xac\x13\0\0")}
    assert len(members["masq6"]) == 1
    assert not members["internal"]


def test_an_internal_network_is_not_masqueraded() -> None:
    members = ruleset([Wall("br0", (V4,), internal=True)], ()).members
    assert members["internal"] == {Element(ifname("br0"))}
    assert not members["masq4"]


def test_ports_of_all_addresses_and_of_one() -> None:
    at = WEB._replace(host=IPv4Address("192.0.2.1"), protocol="udp")
    six = Published("tcp", IPv6Address(0), 8080, IPv6Address("fd00:1::2"), 80)
    members = ruleset((), [WEB, at, six]).members
    assert members["pub4_any"] == {Element(b"\x06\0\0\0\x1f\x90\0\0", b"\xac\x12\0\x02\0\x50\0\0")}
    assert members["pub4_at"] == {
        Element(b"\xc0\0\x02\x01\x11\0\0\0\x1f\x90\0\0", b"\xac\x12\0\x02\0\x50\0\0")
    }
    assert len(members["pub6_any"]) == 1


def test_a_subnet_that_ends_the_address_space_has_an_open_end() -> None:
    members = ruleset([Wall("br0", (IPv4Network("255.255.0.0/16"),))], ()).members
    assert members["nets4"] == {Element(b"\xff\xff\0\0", end=b"\0\0\0\0")}


def test_a_change_sends_the_difference_only() -> None:
    before = ruleset([Wall("br0", (V4,))], [WEB])
    after = ruleset([Wall("br0", (V4,))], [WEB._replace(host_port=8081)])
    assert len(difference("t", before, after)) == 2
    assert difference("t", before, before) == []


def test_the_whole_replaces_whatever_is_there() -> None:
    messages = whole("t", EMPTY)
    rules = sum(len(chain.rules) for chain in CHAINS)
    assert len(messages) == 3 + len(SETS) + len(CHAINS) + rules
