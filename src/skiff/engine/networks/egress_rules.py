"""Egress policies as nf_tables rules: a table of the bridge family, between a container's link and all else.

Pure. Every frame of a container enters the host by its link, so that is where it is judged: whether it is for
a neighbour on the bridge, for the host itself or for the world, whatever the container says its address is.

    prerouting   of a guarded link?   → judge
    judge        ARP, neighbour discovery → accept: they never leave the bridge
                 what the container's kernel says by itself (groups, routers) → drop
                 answers to what came in (@flows) → accept, and renew the flow
                 destination in @named (by the resolver, for a time) or @ranges (by the policy) → accept
                 anything else → counted in @refused, refused
    input        frames to addresses that bridges do not forward → drop: they would reach the host
    postrouting  to a guarded link? → remember the flow, so that its answers may pass

Flows are remembered by link and not taken from connection tracking: that knows addresses only, and an address
may have been another container's a moment ago.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from skiff.engine.networks.egress import EVERY_PORT, Pass
from skiff.engine.networks.ipam import Address
from skiff.engine.networks.ruleset import PROTOCOLS, Layout, Ruleset
from skiff.linux.nftables import (
    ACCEPT,
    DROP,
    FIRST,
    IFNAME_BYTES,
    NFPROTO_BRIDGE,
    SET_DYNAMIC,
    SET_INTERVAL,
    SET_TIMEOUT,
    WORD,
    Chain,
    Element,
    Expression,
    Held,
    Set,
    compare,
    ifname,
    jump,
    load_immediate,
    load_meta,
    load_payload,
    look_up,
    masked,
    name_of,
    padded,
    reject,
    remember,
    verdict,
)

FIRST_ANSWER_SECONDS: Final = 120
CONNECTION_SECONDS: Final = 3 * 3600  # longer than TCP's keep-alive asks for a sign of life
DATAGRAM_SECONDS: Final = 180
REFUSED_SECONDS: Final = 86400
MOST_NAMED: Final = 262144
MOST_FLOWS: Final = 262144
MOST_REFUSED: Final = 16384
_ARP: Final = struct.pack(">H", 0x0806)
_FIN, _SYN, _RST = 1, 2, 4
_FLAGS: Final = FIRST + 12  # a register behind the longest key


class _Family(NamedTuple):
    """Where things are in a packet. source, destination: offsets; size: of an address.

    echo: ICMP's types of the question and the answer.
    """

    digit: str
    protocol: bytes
    source: int
    destination: int
    size: int
    icmp: int
    echo: tuple[int, int]


_FAMILIES: Final = (
    _Family("4", struct.pack(">H", 0x0800), 12, 16, 4, 1, (8, 0)),
    _Family("6", struct.pack(">H", 0x86DD), 8, 24, 16, 58, (128, 129)),
)


def _sets() -> tuple[list[Set], list[Set]]:
    """(those of the records, those that are learned)."""
    told, learned = [Set("guarded", ("ifname",))], []
    for family in _FAMILIES:
        address = f"ipv{family.digit}_addr"
        every = ("ifname", address)
        port = ("ifname", "inet_proto", address, "inet_service")
        digit = family.digit
        told += [
            Set(f"ranges{digit}", every, flags=SET_INTERVAL),
            Set(f"ranges{digit}_port", port, flags=SET_INTERVAL),
        ]
        dynamic = SET_TIMEOUT | SET_DYNAMIC
        learned += [
            Set(f"named{digit}", every, flags=SET_TIMEOUT, size=MOST_NAMED),
            Set(f"named{digit}_port", port, flags=SET_TIMEOUT, size=MOST_NAMED),
            Set(f"flows{digit}", (*port, "inet_service"), flags=dynamic, size=MOST_FLOWS),
            Set(f"refused{digit}", port, flags=dynamic, size=MOST_REFUSED),
        ]
    return told, learned


def _is(family: _Family, protocol: int) -> list[Expression]:
    return [
        load_meta("protocol"),
        compare(family.protocol),
        load_meta("l4proto"),
        compare(bytes([protocol])),
    ]


def _key(family: _Family, link: str, address: int, *ports: int | None) -> list[Expression]:
    """Link, protocol, address and ports into the registers. ports: offsets; None for 0."""
    found = [load_meta(link)]
    at = FIRST + IFNAME_BYTES // WORD
    found.append(load_meta("l4proto", at))
    found.append(load_payload("network", address, family.size, at + 1))
    at += 1 + family.size // WORD
    for number, offset in enumerate(ports):
        register = at + number
        if offset is None:
            found.append(load_immediate(bytes(WORD), register))
        else:
            found.append(load_payload("transport", offset, 2, register))
    return found


def _flags(mask: int, *, set: bool) -> list[Expression]:
    """Of TCP: is any of those set, or none?"""
    return [
        load_payload("transport", 13, 1, _FLAGS),
        masked(bytes([mask]), _FLAGS),
        compare(b"\0", operator=1 if set else 0, register=_FLAGS),
    ]


def _answers(family: _Family) -> list[tuple[Expression, ...]]:
    """Of what came in before: renewed by what a connection does, then let go."""
    flows = f"flows{family.digit}"
    key = [*_key(family, "iifname", family.destination, 2, 0), look_up(flows)]
    tcp, udp = _is(family, PROTOCOLS["tcp"]), _is(family, PROTOCOLS["udp"])
    long, short = (remember(flows, seconds=s) for s in (CONNECTION_SECONDS, FIRST_ANSWER_SECONDS))
    echo = _key(family, "iifname", family.destination, None, None)
    return [
        (*tcp, *key, *_flags(_FIN | _SYN | _RST, set=False), long),
        (*tcp, *key, *_flags(_FIN | _RST, set=True), short),
        (*udp, *key, remember(flows, seconds=DATAGRAM_SECONDS)),
        *((*_is(family, number), *key, verdict(ACCEPT)) for number in PROTOCOLS.values()),
        (
            *_is(family, family.icmp),
            load_payload("transport", 0, 1),
            compare(bytes([family.echo[1]])),
            *echo,
            look_up(flows),
            verdict(ACCEPT),
        ),
    ]


def _allowed(family: _Family) -> list[tuple[Expression, ...]]:
    protocol = [load_meta("protocol"), compare(family.protocol)]
    every = [
        load_meta("iifname"),
        load_payload("network", family.destination, family.size, FIRST + IFNAME_BYTES // WORD),
    ]
    port = _key(family, "iifname", family.destination, 2)
    return [
        (*protocol, *key, look_up(f"{kind}{family.digit}{suffix}"), verdict(ACCEPT))
        for kind in ("named", "ranges")
        for suffix, key in (("", every), ("_port", port))
    ]


def _refused(family: _Family) -> list[tuple[Expression, ...]]:
    """Counted by destination; by port where there are any."""
    put = remember(f"refused{family.digit}", seconds=REFUSED_SECONDS, count=True)
    with_port = _key(family, "iifname", family.destination, 2)
    without = _key(family, "iifname", family.destination, None)
    others = [compare(bytes([number]), operator=1) for number in PROTOCOLS.values()]
    protocol = [load_meta("protocol"), compare(family.protocol)]
    return [
        *((*_is(family, number), *with_port, put) for number in PROTOCOLS.values()),
        (*protocol, load_meta("l4proto"), *others, *without, put),
    ]


def _discovery() -> list[tuple[Expression, ...]]:
    """Neighbour solicitations and advertisements that no router has passed on: RFC 4861 § 7.1.

    Router solicitations and multicast reports (RFC 3810) are nobody's attempt to get out, and not counted.
    """
    six = _FAMILIES[1]
    of_kind = [*_is(six, six.icmp), load_payload("transport", 0, 1)]
    on_link = [load_payload("network", 7, 1), compare(b"\xff")]
    return [
        *((*of_kind, compare(bytes([kind])), *on_link, verdict(ACCEPT)) for kind in (135, 136)),
        *((*of_kind, compare(bytes([kind])), verdict(DROP)) for kind in (131, 132, 133, 143)),
    ]


def _learn(family: _Family) -> list[tuple[Expression, ...]]:
    flows = f"flows{family.digit}"
    key = _key(family, "oifname", family.source, 0, 2)
    first = remember(flows, seconds=FIRST_ANSWER_SECONDS, renew=False)
    return [
        *((*_is(family, number), *key, first) for number in PROTOCOLS.values()),
        (
            *_is(family, family.icmp),
            load_payload("transport", 0, 1),
            compare(bytes([family.echo[0]])),
            *_key(family, "oifname", family.source, None, None),
            remember(flows, seconds=FIRST_ANSWER_SECONDS),
        ),
    ]


def _guarded(link: str) -> list[Expression]:
    return [load_meta(link), look_up("guarded")]


def _chains(*, rejects: bool) -> tuple[Chain, ...]:
    tcp = [load_meta("l4proto"), compare(bytes([PROTOCOLS["tcp"]]))]
    refusal = [(*tcp, reject(reset=True)), (reject(reset=False),)] if rejects else []
    judge = (
        (load_meta("protocol"), compare(_ARP), verdict(ACCEPT)),
        *_discovery(),
        *(rule for family in _FAMILIES for rule in _answers(family)),
        *(rule for family in _FAMILIES for rule in _allowed(family)),
        *(rule for family in _FAMILIES for rule in _refused(family)),
        *refusal,
        (verdict(DROP),),
    )
    reserved = (load_payload("link", 0, 6), masked(b"\xff\xff\xff\xff\xff\xf0"), compare(_RESERVED))
    return (
        Chain("judge", rules=judge),
        Chain("learn", rules=tuple(rule for family in _FAMILIES for rule in _learn(family))),
        Chain("prerouting", "filter", "prerouting", -300, ((*_guarded("iifname"), jump("judge")),)),
        Chain("input", "filter", "input", -300, ((*_guarded("iifname"), *reserved, verdict(DROP)),)),
        Chain("postrouting", "filter", "postrouting", 300, ((*_guarded("oifname"), jump("learn")),)),
    )


_RESERVED: Final = b"\x01\x80\xc2\x00\x00\x00"  # IEEE 802.1D § 7.12.6
_TOLD, _LEARNED = _sets()
_WALLS: Final = frozenset(described.name for described in _TOLD)
# The second for kernels that cannot refuse on a bridge: there a forbidden packet is lost without a word.
LAYOUTS: Final = tuple(
    Layout(NFPROTO_BRIDGE, tuple(_TOLD), _chains(rejects=rejects), _WALLS, tuple(_LEARNED))
    for rejects in (True, False)
)


def egress_ruleset(links: Iterable[str], allowed: Iterable[Pass]) -> Ruleset:
    """The members of every set for these guarded links."""
    members: dict[str, set[Element]] = {described.name: set() for described in _TOLD}
    members["guarded"].update(Element(ifname(link)) for link in links)
    for link, subnet, port in allowed:
        first, last = subnet.network_address.packed, subnet.broadcast_address.packed
        name = f"ranges{subnet.version}"
        if port == EVERY_PORT:
            members[name].add(Element(ifname(link) + first, last=ifname(link) + last))
        else:
            for number in PROTOCOLS.values():
                low, high = (_port_key(link, number, address, port) for address in (first, last))
                members[f"{name}_port"].add(Element(low, last=high))
    return Ruleset({name: frozenset(elements) for name, elements in members.items()})


def _port_key(link: str, protocol: int, address: bytes, port: int) -> bytes:
    return ifname(link) + padded(bytes([protocol]), address, struct.pack(">H", port))


def opening(link: str, address: Address, port: int, seconds: int) -> tuple[str, list[Element]]:
    """The set, and what is put in it, for an address that a name has led to."""
    name, until = f"named{address.version}", seconds * 1000
    if port == EVERY_PORT:
        return name, [Element(ifname(link) + address.packed, timeout_ms=until)]
    return f"{name}_port", [
        Element(_port_key(link, number, address.packed, port), timeout_ms=until)
        for number in PROTOCOLS.values()
    ]


class Refused(NamedTuple):
    """Packets that were refused. port: 0 for protocols without. seconds: since the last one."""

    link: str
    protocol: int
    address: bytes
    port: int
    packets: int
    seconds: float


REFUSED_SETS: Final = tuple(f"refused{family.digit}" for family in _FAMILIES)


def refused(held: Held) -> Refused:
    """A member of a `refused` set, read."""
    at = IFNAME_BYTES
    size = len(held.key) - at - 2 * WORD
    address = held.key[at + WORD : at + WORD + size]
    (port,) = struct.unpack_from(">H", held.key, at + WORD + size)
    since = (held.timeout_ms - held.left_ms) / 1000
    return Refused(name_of(held.key[:at]), held.key[at], address, port, held.packets, since)
