"""nf_tables: nfnetlink messages (pure) for tables, chains, rules, sets and maps; the calls that apply them.

A rule is a list of expressions, each a small step on registers; `compare`, `look_up`, `dnat`… build them.
Keys of several fields lie in consecutive 32-bit registers, each field padded to four bytes.
nft(8), <linux/netfilter/nf_tables.h>.
"""

import errno
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from skiff.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    Message,
    NetlinkSocket,
    attribute,
    attributes,
    be32,
    nested,
    text,
)

NFPROTO_INET: Final = 1
NFPROTO_IPV4: Final = 2
NFPROTO_BRIDGE: Final = 7
NFPROTO_IPV6: Final = 10
_SUBSYSTEM: Final = 10 << 8
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _GETTABLE, _DELTABLE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN = _SUBSYSTEM | 3, _SUBSYSTEM | 4, _SUBSYSTEM | 5
_NEWRULE, _GETRULE, _DELRULE, _NEWSET = _SUBSYSTEM | 6, _SUBSYSTEM | 7, _SUBSYSTEM | 8, _SUBSYSTEM | 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = _SUBSYSTEM | 12, _SUBSYSTEM | 13, _SUBSYSTEM | 14

HOOKS: Final = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
SET_INTERVAL: Final = 0x4
SET_MAP: Final = 0x8
SET_TIMEOUT: Final = 0x10
SET_DYNAMIC: Final = 0x20  # rules may add to it
_SET_CONCAT: Final = 0x80
_INTERVAL_END: Final = 1

DROP: Final = 0
ACCEPT: Final = 1
_JUMP: Final = -3

# Registers: 1 is the first of 16 bytes; 8 and up are the same storage in words of four bytes.
FIRST: Final = 8
WORD: Final = 4

EQUAL: Final = 0
IFNAME_BYTES: Final = 16
# Field types: the number by which nft(8) knows them when it lists a set, and their size padded to words.
_TYPES: Final = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "inet_proto": (12, 4),
    "inet_service": (13, 4),
    "ifname": (41, IFNAME_BYTES),
}

Expression = bytes


class Element(NamedTuple):
    """A member of a set, or with data of a map. timeout_ms: 0 for ever.

    end: of an interval of one field, exclusive. last: of intervals of several fields, inclusive.
    """

    key: bytes
    data: bytes = b""
    end: bytes = b""
    timeout_ms: int = 0
    last: bytes = b""


class Held(NamedTuple):
    """A member as the kernel has it now. timeout_ms, left_ms: 0 for ever. packets: that a rule counted."""

    key: bytes
    data: bytes = b""
    timeout_ms: int = 0
    left_ms: int = 0
    packets: int = 0


class Set(NamedTuple):
    """A set, or with data a map. key, data: types of their fields. flags: SET_INTERVAL, …

    size: how many members a dynamic one may have at most.
    """

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    flags: int = 0
    size: int = 0


class Chain(NamedTuple):
    """hook "" is a chain to jump to; else `filter` or `nat` at a hook with a priority; policy accept."""

    name: str
    kind: str = ""
    hook: str = ""
    priority: int = 0
    rules: tuple[tuple[Expression, ...], ...] = ()


def ifname(name: str) -> bytes:
    """An interface name as sets hold it."""
    return name.encode().ljust(IFNAME_BYTES, b"\0")


def name_of(key: bytes) -> str:
    """The interface name in a set's key."""
    return key.rstrip(b"\0").decode()


def padded(*fields: bytes) -> bytes:
    """The fields of a concatenated key."""
    return b"".join(field + bytes(-len(field) % WORD) for field in fields)


# -- expressions ------------------------------------------------------------------------------------------


def _expression(name: str, *data: bytes) -> Expression:
    return nested(1, text(1, name), nested(2, *data))


def _value(data: bytes) -> bytes:
    return attribute(1, data)


def load_meta(key: str, register: int = FIRST) -> Expression:
    """`protocol iifname oifname l4proto nfproto` into a register."""
    number = {"protocol": 1, "iifname": 6, "oifname": 7, "nfproto": 15, "l4proto": 16}[key]
    return _expression("meta", be32(1, register), be32(2, number))


def load_payload(base: str, offset: int, length: int, register: int = FIRST) -> Expression:
    """Bytes of the `link`, `network` or `transport` header."""
    where = {"link": 0, "network": 1, "transport": 2}[base]
    return _expression("payload", be32(1, register), be32(2, where), be32(3, offset), be32(4, length))


def load_address_type(register: int = FIRST) -> Expression:
    """Of the destination, by the routing table: 2 is local. nft: `fib daddr type`."""
    return _expression("fib", be32(1, register), be32(2, 3), be32(3, 2))


def load_conntrack(key: str, register: int = FIRST) -> Expression:
    """`state` or `status`, a bit mask in the machine's byte order."""
    return _expression("ct", be32(1, register), be32(2, {"state": 0, "status": 2}[key]))


def masked(mask: bytes, register: int = FIRST) -> Expression:
    """AND the register with a mask."""
    size = len(mask)
    return _expression(
        "bitwise",
        be32(1, register),
        be32(2, register),
        be32(3, size),
        nested(4, _value(mask)),
        nested(5, _value(bytes(size))),
    )


def compare(data: bytes, *, operator: int = EQUAL, register: int = FIRST) -> Expression:
    return _expression("cmp", be32(1, register), be32(2, operator), nested(3, _value(data)))


def look_up(name: str, *, register: int = FIRST, into: int | None = None, absent: bool = False) -> Expression:
    """The rule goes on if the key is in the set (absent: is not); into: where a map's data goes."""
    parts = [text(1, name), be32(2, register)]
    if into is not None:
        parts.append(be32(3, into))
    if absent:
        parts.append(be32(5, 1))
    return _expression("lookup", *parts)


def load_immediate(data: bytes, register: int = FIRST) -> Expression:
    """A constant into a register."""
    return _expression("immediate", be32(1, register), nested(2, _value(data)))


def verdict(code: int, chain: str = "") -> Expression:
    parts = [be32(1, code & 0xFFFFFFFF)]
    if chain:
        parts.append(text(2, chain))
    return _expression("immediate", be32(1, 0), nested(2, nested(2, *parts)))


def jump(chain: str) -> Expression:
    return verdict(_JUMP, chain)


def dnat(family: int, *, address: int, port: int) -> Expression:
    """To the address and port in those registers."""
    return _expression("nat", be32(1, 1), be32(2, family), be32(3, address), be32(5, port))


def masquerade() -> Expression:
    return _expression("masq")


def remember(
    name: str, *, seconds: int, renew: bool = True, count: bool = False, register: int = FIRST
) -> Expression:
    """Put the key into a dynamic set; renew: let its time begin anew when it is there. The rule ends if full.

    count: and count the packets of each key.
    """
    parts = [text(1, name), be32(3, 1 if renew else 0), be32(4, register)]
    parts.append(attribute(6, struct.pack(">Q", seconds * 1000)))
    if count:
        parts.append(nested(7, text(1, "counter"), nested(2)))
    return _expression("dynset", *parts)


def reject(*, reset: bool) -> Expression:
    """Refuse with a TCP reset, or with ICMP's `administratively prohibited`."""
    if reset:
        return _expression("reject", be32(1, 1))
    return _expression("reject", be32(1, 2), attribute(2, b"\3"))


# -- messages ---------------------------------------------------------------------------------------------


def _message(kind: int, flags: int, *parts: bytes, family: int = NFPROTO_INET, id: int = 0) -> Message:
    return Message(kind, flags, struct.pack(">BBH", family, 0, id) + b"".join(parts))


def new_table(table: str, *, family: int = NFPROTO_INET) -> Message:
    """Make it, or leave it as it is."""
    return _message(_NEWTABLE, NLM_F_CREATE, text(1, table), family=family)


def delete_table(table: str, *, family: int = NFPROTO_INET) -> Message:
    """With all that is in it."""
    return _message(_DELTABLE, 0, text(1, table), family=family)


def new_chain(table: str, chain: Chain, *, family: int = NFPROTO_INET) -> Message:
    parts = [text(1, table), text(3, chain.name)]
    if chain.hook:
        hook = nested(4, be32(1, HOOKS[chain.hook]), be32(2, chain.priority & 0xFFFFFFFF))
        parts += [hook, be32(5, ACCEPT), text(7, chain.kind)]
    return _message(_NEWCHAIN, NLM_F_CREATE, *parts, family=family)


def delete_chain(table: str, chain: str, *, family: int = NFPROTO_INET) -> Message:
    """With its rules; nothing may jump to it any more."""
    return _message(_DELCHAIN, 0, text(1, table), text(3, chain), family=family)


def new_rule(
    table: str,
    chain: str,
    expressions: Sequence[Expression],
    *,
    first: bool = False,
    family: int = NFPROTO_INET,
) -> Message:
    """At the end of the chain, or as its first."""
    flags = NLM_F_CREATE if first else NLM_F_CREATE | NLM_F_APPEND
    return _message(_NEWRULE, flags, text(1, table), text(2, chain), nested(4, *expressions), family=family)


def delete_rule(table: str, chain: str, handle: bytes, *, family: int = NFPROTO_INET) -> Message:
    return _message(_DELRULE, 0, text(1, table), text(2, chain), attribute(3, handle), family=family)


def delete_rules(table: str, chain: str, *, family: int = NFPROTO_INET) -> Message:
    """All of a chain."""
    return _message(_DELRULE, 0, text(1, table), text(2, chain), family=family)


def new_set(table: str, described: Set, id: int, *, family: int = NFPROTO_INET) -> Message:
    """Make it, or leave it as it is. id: any number, distinct within a transaction."""
    kind, size = _type(described.key)
    intervals = described.flags & SET_INTERVAL and len(described.key) > 1
    flags = described.flags | (SET_MAP if described.data else 0) | (_SET_CONCAT if intervals else 0)
    parts = [
        text(1, table),
        text(2, described.name),
        be32(3, flags),
        be32(4, kind),
        be32(5, size),
        be32(10, id),
    ]
    if described.data:
        kind, size = _type(described.data)
        parts += [be32(6, kind), be32(7, size)]
    about = [be32(1, described.size)] if described.size else []
    if intervals:
        about.append(nested(2, *(nested(1, be32(1, _TYPES[field][1])) for field in described.key)))
    if about:
        parts.append(nested(9, *about))
    return _message(_NEWSET, NLM_F_CREATE, *parts, family=family)


def _type(fields: tuple[str, ...]) -> tuple[int, int]:
    """(number of the type, bytes); six bits a field in a concatenation."""
    number = size = 0
    for field in fields:
        kind, width = _TYPES[field]
        number, size = number << 6 | kind, size + width
    return number, size


def add_elements(
    table: str, name: str, elements: Iterable[Element], *, family: int = NFPROTO_INET
) -> list[Message]:
    return _elements(_NEWSETELEM, NLM_F_CREATE, table, name, elements, family)


def delete_elements(
    table: str, name: str, elements: Iterable[Element], *, family: int = NFPROTO_INET
) -> list[Message]:
    return _elements(_DELSETELEM, 0, table, name, elements, family)


def empty_set(table: str, name: str, *, family: int = NFPROTO_INET) -> Message:
    """Take all its members away."""
    return _message(_DELSETELEM, 0, text(1, table), text(2, name), family=family)


_ELEMENTS_A_MESSAGE: Final = 256  # an attribute holds 64 KiB at most


def _elements(
    kind: int, flags: int, table: str, name: str, elements: Iterable[Element], family: int
) -> list[Message]:
    packed = [part for element in elements for part in _packed(element)]
    return [
        _message(
            kind,
            flags,
            text(1, table),
            text(2, name),
            nested(3, *packed[start : start + _ELEMENTS_A_MESSAGE]),
            family=family,
        )
        for start in range(0, len(packed), _ELEMENTS_A_MESSAGE)
    ]


def _packed(element: Element) -> list[bytes]:
    parts = [nested(1, _value(element.key))]
    if element.data:
        parts.append(nested(2, _value(element.data)))
    if element.timeout_ms:
        parts.append(attribute(4, struct.pack(">Q", element.timeout_ms)))
    if element.last:
        parts.append(nested(10, _value(element.last)))
    packed = [nested(1, *parts)]
    if element.end:
        packed.append(nested(1, nested(1, _value(element.end)), be32(3, _INTERVAL_END)))
    return packed


# -- calls ------------------------------------------------------------------------------------------------


# No such thing, or a kernel that has nothing of its family.
_ABSENT: Final = (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)


class Nftables:
    """A nfnetlink socket, in the network namespace where it was made."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        self._netlink.close()

    def commit(self, messages: Sequence[Message]) -> None:
        """Apply all or none. OSError names the number of the message that was refused."""
        self._netlink.transaction(
            _message(_BATCH_BEGIN, 0, family=0, id=10), messages, _message(_BATCH_END, 0, family=0, id=10)
        )

    def has_table(self, table: str, *, family: int = NFPROTO_INET) -> bool:
        try:
            self._netlink.get(_message(_GETTABLE, 0, text(1, table), family=family))
        except OSError as error:
            if error.errno in _ABSENT:
                return False
            raise
        return True

    def policy(self, table: str, chain: str, *, family: int) -> int | None:
        """DROP or ACCEPT of a base chain; None when there is no such chain."""
        try:
            body = self._netlink.get(_message(_GETCHAIN, 0, text(1, table), text(3, chain), family=family))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        policy = dict(attributes(body, 4)).get(5)
        return None if policy is None else int.from_bytes(policy, "big")

    def rules_with(self, table: str, chain: str, mark: bytes, *, family: int) -> list[bytes]:
        """Handles of the rules whose expressions hold these bytes: the name of a chain they jump to."""
        asked = _message(_GETRULE, 0, text(1, table), text(2, chain), family=family)
        found = []
        for _kind, body in self._netlink.dump(asked):
            fields = dict(attributes(body, 4))
            if mark + b"\0" in fields.get(4, b""):
                found.append(fields[3])
        return found

    def elements(self, table: str, name: str) -> set[tuple[bytes, bytes]]:
        """(key, data) of all members of a set or map; the ends of intervals are left out."""
        return {(held.key, held.data) for held in self.members(table, name)}

    def members(self, table: str, name: str, *, family: int = NFPROTO_INET) -> list[Held]:
        """All members of a set or map; the ends of intervals are left out. OSError when there is no set."""
        asked = _message(_GETSETELEM, 0, text(1, table), text(2, name), family=family)
        return [
            held
            for _kind, body in self._netlink.dump(asked)
            for outer, value in attributes(body, 4)
            if outer == 3
            for _, item in attributes(value)
            if (held := _unpacked(item)) is not None
        ]


def _unpacked(item: bytes) -> Held | None:
    fields = dict(attributes(item))
    if fields.get(3) == struct.pack(">I", _INTERVAL_END):
        return None
    key, data = (dict(attributes(fields.get(number, b""))).get(1, b"") for number in (1, 2))
    return Held(key, data, _number(fields.get(4)), _number(fields.get(5)), _counted(fields.get(7, b"")))


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _counted(expression: bytes) -> int:
    """The packets of a counter: its name and its values lie side by side."""
    return _number(dict(attributes(dict(attributes(expression)).get(2, b""))).get(2))
