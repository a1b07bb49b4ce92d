"""Which firewall? From what networks and endpoints say to sets, maps and chains. Pure.

The chains are the same for ever; what changes are the members of the sets, kept in the kernel by firewall.py.

    prerouting  nat      to an address of this host? → publish
    output      nat      the same for the host's own packets, 127.0.0.1 included; not ::1, which leads nowhere
                         else: relays listen there
    publish              destination in @pub4_at / @pub4_any (6 likewise) → the container's address and port
    postrouting nat      from a container out of the host → masquerade
                         published, from a container or from 127.0.0.1 → masquerade, or no answer comes back
    guard       raw      from a bridge to 127.0.0.0/8 → drop: route_localnet must not open the host's loopback
    forward     filter   answers → accept; published → accept; within a bridge → accept;
                         from an internal network → drop;
                         to a network that is open, to a published port of a routed one, ICMP to it → accept;
                         to any bridge from elsewhere → drop
"""

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

from skiff.linux.nftables import (
    ACCEPT,
    DROP,
    FIRST,
    NFPROTO_INET,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    SET_INTERVAL,
    WORD,
    Chain,
    Element,
    Expression,
    Set,
    compare,
    dnat,
    ifname,
    jump,
    load_address_type,
    load_conntrack,
    load_meta,
    load_payload,
    look_up,
    masked,
    masquerade,
    padded,
    verdict,
)

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "sctp": 132}  # IANA protocol numbers
_LOCAL: Final = struct.pack("=I", 2)
_ESTABLISHED_OR_RELATED: Final = struct.pack("=I", 2 | 4)
_DESTINATION_CHANGED: Final = struct.pack("=I", 1 << 5)
_NONE: Final = struct.pack("=I", 0)


class Wall(NamedTuple):
    """What one network asks of the firewall.

    open: address families in which everybody may reach every port; routed: in which the published ones are
    reached at the containers' own addresses, and nothing is masqueraded.
    """

    bridge: str
    subnets: tuple[IPv4Network | IPv6Network, ...]
    internal: bool = False
    masquerade: bool = True
    open: frozenset[int] = frozenset()
    routed: frozenset[int] = frozenset()


class Published(NamedTuple):
    """A port of the host that leads to a container. host: the unspecified address for all of its family.

    host_port 0: none; the container's own is reached from outside.
    """

    protocol: str
    host: IPv4Address | IPv6Address
    host_port: int
    container: IPv4Address | IPv6Address
    container_port: int


class Ruleset(NamedTuple):
    """Sets by name with their members. Two equal rulesets are the same firewall."""

    members: dict[str, frozenset[Element]]

    @property
    def is_empty(self) -> bool:
        return not any(self.members.values())


class Layout(NamedTuple):
    """What of a table is the same for ever. walls: sets that let nobody in.

    learned: sets that fill up while packets flow; no ruleset says what is in them.
    """

    family: int
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    walls: frozenset[str]
    learned: tuple[Set, ...] = ()


_PORT: Final = ("inet_proto", "inet_service")
SETS: Final = (
    Set("bridges", ("ifname",)),
    Set("internal", ("ifname",)),
    Set("within", ("ifname", "ifname")),
    Set("masq4", ("ipv4_addr",), flags=SET_INTERVAL),
    Set("masq6", ("ipv6_addr",), flags=SET_INTERVAL),
    Set("nets4", ("ipv4_addr",), flags=SET_INTERVAL),
    Set("nets6", ("ipv6_addr",), flags=SET_INTERVAL),
    Set("pub4_at", ("ipv4_addr", *_PORT), ("ipv4_addr", "inet_service")),
    Set("pub4_any", _PORT, ("ipv4_addr", "inet_service")),
    Set("pub6_at", ("ipv6_addr", *_PORT), ("ipv6_addr", "inet_service")),
    Set("pub6_any", _PORT, ("ipv6_addr", "inet_service")),
    Set("open4", ("ifname",)),
    Set("open6", ("ifname",)),
    Set("routed4", ("ifname",)),
    Set("routed6", ("ifname",)),
    Set("direct4", ("ipv4_addr", *_PORT)),
    Set("direct6", ("ipv6_addr", *_PORT)),
)


def _family(number: int) -> list[Expression]:
    return [load_meta("nfproto"), compare(bytes([number]))]


def _publish(family: int, *, at: bool) -> tuple[Expression, ...]:
    """Key: [destination .] protocol . port; data: address . port, in the registers where dnat looks."""
    size, offset = (4, 16) if family == NFPROTO_IPV4 else (16, 24)
    digit = "4" if family == NFPROTO_IPV4 else "6"
    rule = _family(family)
    register = FIRST
    if at:
        rule.append(load_payload("network", offset, size, register))
        register += size // 4
    rule += [load_meta("l4proto", register), load_payload("transport", 2, 2, register + 1)]
    rule += [
        look_up(f"pub{digit}_{'at' if at else 'any'}", into=FIRST),
        dnat(family, address=FIRST, port=FIRST + size // 4),
    ]
    return tuple(rule)


def _to_open_network(family: int) -> tuple[Expression, ...]:
    digit = "4" if family == NFPROTO_IPV4 else "6"
    return (*_family(family), load_meta("oifname"), look_up(f"open{digit}"), verdict(ACCEPT))


def _to_routed_port(family: int) -> tuple[Expression, ...]:
    size, offset, digit = (4, 16, "4") if family == NFPROTO_IPV4 else (16, 24, "6")
    after = FIRST + size // WORD
    return (
        *_family(family),
        load_payload("network", offset, size),
        load_meta("l4proto", after),
        load_payload("transport", 2, 2, after + 1),
        look_up(f"direct{digit}"),
        verdict(ACCEPT),
    )


def _icmp_to_routed_network(family: int) -> tuple[Expression, ...]:
    digit, protocol = ("4", 1) if family == NFPROTO_IPV4 else ("6", 58)
    return (
        *_family(family),
        load_meta("l4proto"),
        compare(bytes([protocol])),
        load_meta("oifname"),
        look_up(f"routed{digit}"),
        verdict(ACCEPT),
    )


def _is_published() -> list[Expression]:
    return [
        load_conntrack("status"),
        masked(_DESTINATION_CHANGED),
        compare(_NONE, operator=1),
    ]


def _published_to_containers(family: int) -> tuple[Expression, ...]:
    """From a container to one, perhaps on the same bridge: the answer must not go there by itself."""
    offset, size, digit = (12, 4, "4") if family == NFPROTO_IPV4 else (8, 16, "6")
    return (
        *_is_published(),
        *_family(family),
        load_payload("network", offset, size),
        look_up(f"nets{digit}"),
        load_meta("oifname"),
        look_up("bridges"),
        masquerade(),
    )


def _from_containers_out(family: int, set_name: str) -> tuple[Expression, ...]:
    offset, size = (12, 4) if family == NFPROTO_IPV4 else (8, 16)
    return (
        *_family(family),
        load_payload("network", offset, size),
        look_up(set_name),
        load_meta("oifname"),
        look_up("bridges", absent=True),
        masquerade(),
    )


_TO_THIS_HOST: Final = (load_address_type(), compare(_LOCAL), jump("publish"))
_TO_LOOPBACK6: Final = (
    *_family(NFPROTO_IPV6),
    load_payload("network", 24, 16),
    compare(IPv6Address("::1").packed),
    verdict(ACCEPT),
)
_FROM_LOOPBACK: Final = (
    *_family(NFPROTO_IPV4),
    load_payload("network", 12, 1),
    compare(b"\x7f"),
    load_meta("oifname"),
    look_up("bridges"),
    masquerade(),
)

CHAINS: Final = (
    Chain(
        "publish",
        rules=(
            _publish(NFPROTO_IPV4, at=True),
            _publish(NFPROTO_IPV4, at=False),
            _publish(NFPROTO_IPV6, at=True),
            _publish(NFPROTO_IPV6, at=False),
        ),
    ),
    Chain(
        "guard",
        "filter",
        "prerouting",
        -300,
        (
            (  # every packet that comes in gets here: what most are not is asked first, and by the cheapest
                *_family(NFPROTO_IPV4),
                load_payload("network", 16, 1),
                compare(b"\x7f"),
                load_meta("iifname"),
                look_up("bridges"),
                verdict(DROP),
            ),
        ),
    ),
    Chain("prerouting", "nat", "prerouting", -100, (_TO_THIS_HOST,)),
    Chain("output", "nat", "output", -100, (_TO_LOOPBACK6, _TO_THIS_HOST)),
    Chain(
        "postrouting",
        "nat",
        "postrouting",
        100,
        (
            _from_containers_out(NFPROTO_IPV4, "masq4"),
            _from_containers_out(NFPROTO_IPV6, "masq6"),
            _FROM_LOOPBACK,
            _published_to_containers(NFPROTO_IPV4),
            _published_to_containers(NFPROTO_IPV6),
        ),
    ),
    Chain(
        "forward",
        "filter",
        "forward",
        0,
        (
            (
                load_conntrack("state"),
                masked(_ESTABLISHED_OR_RELATED),
                compare(_NONE, operator=1),
                verdict(ACCEPT),
            ),
            (*_is_published(), verdict(ACCEPT)),
            (load_meta("iifname"), load_meta("oifname", FIRST + 4), look_up("within"), verdict(ACCEPT)),
            (load_meta("iifname"), look_up("internal"), verdict(DROP)),
            *(
                rule(family)
                for rule in (_to_open_network, _to_routed_port, _icmp_to_routed_network)
                for family in (NFPROTO_IPV4, NFPROTO_IPV6)
            ),
            (load_meta("oifname"), look_up("bridges"), verdict(DROP)),
        ),
    ),
)


LAYOUT: Final = Layout(
    NFPROTO_INET,
    SETS,
    CHAINS,
    walls=frozenset(("bridges", "internal", "within", "masq4", "masq6", "nets4", "nets6")),
)


def ruleset(walls: Iterable[Wall], published: Iterable[Published]) -> Ruleset:
    """The members of every set for these networks and ports."""
    members: dict[str, set[Element]] = {described.name: set() for described in SETS}
    for wall in walls:
        name = ifname(wall.bridge)
        members["bridges"].add(Element(name))
        if wall.internal:
            members["internal"].add(Element(name))
        members["within"].add(Element(name + name))
        for kind, versions in (("open", wall.open), ("routed", wall.routed)):
            for version in versions:
                members[f"{kind}{version}"].add(Element(name))
        for subnet in wall.subnets:
            element = Element(subnet.network_address.packed, end=_after(subnet))
            members[f"nets{subnet.version}"].add(element)
            if wall.masquerade and not wall.internal and subnet.version not in wall.routed:
                members[f"masq{subnet.version}"].add(element)
    for port in published:
        version = port.container.version
        if not port.host_port:
            inside = padded(bytes([PROTOCOLS[port.protocol]]), struct.pack(">H", port.container_port))
            members[f"direct{version}"].add(Element(port.container.packed + inside))
            continue
        key = padded(bytes([PROTOCOLS[port.protocol]]), struct.pack(">H", port.host_port))
        data = padded(port.container.packed, struct.pack(">H", port.container_port))
        if port.host.is_unspecified:
            members[f"pub{version}_any"].add(Element(key, data))
        else:
            members[f"pub{version}_at"].add(Element(port.host.packed + key, data))
    return Ruleset({name: frozenset(elements) for name, elements in members.items()})


def _after(subnet: IPv4Network | IPv6Network) -> bytes:
    """The first address behind a subnet, as an interval's end; all ones wrap to an open end."""
    last = int(subnet.broadcast_address) + 1
    size = 4 if subnet.version == 4 else 16
    return last.to_bytes(size + 1, "big")[-size:]
