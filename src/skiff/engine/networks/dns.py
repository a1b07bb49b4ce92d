"""DNS messages, as much as a resolver for containers needs: read a question, write an answer. Pure.

Questions for names we know are answered from the records; all others are passed on as they came.
RFC 1035 § 4, RFC 3596 (AAAA), RFC 6891 (EDNS: its record in a question is skipped over).
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

A: Final = 1
CNAME: Final = 5
PTR: Final = 12
AAAA: Final = 28
ANY: Final = 255
IN: Final = 1

NO_ERROR: Final = 0
SERVER_FAILURE: Final = 2
NO_SUCH_NAME: Final = 3
REFUSED: Final = 5

_HEADER: Final = struct.Struct(">6H")
_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_OPCODE: Final = 0x7800
_POINTER_TO_QUESTION: Final = b"\xc0\x0c"
_LONGEST_NAME: Final = 255
_LONGEST_TTL: Final = 2**31 - 1  # RFC 2181 § 8

# How long a client may keep an answer of ours, in seconds: Docker's figure.
TTL: Final = 600


class MalformedMessage(ValueError):
    """Not a DNS question."""


class Question(NamedTuple):
    """name: lower case, without the final dot. end: where the question section ends in the message."""

    id: int
    flags: int
    name: str
    type: int
    end: int


def question(message: bytes) -> Question:
    """The one question of a query; MalformedMessage otherwise."""
    if len(message) < 12:
        raise MalformedMessage("shorter than a header")
    id, flags, questions, _, _, _ = _HEADER.unpack_from(message)
    if flags & _RESPONSE or questions != 1:
        raise MalformedMessage("not a query with one question")
    labels: list[bytes] = []
    at = 12
    while True:
        if at >= len(message):
            raise MalformedMessage("the name has no end")
        length = message[at]
        at += 1
        if length == 0:
            break
        if length > 63 or at + length > len(message) or at - 12 > _LONGEST_NAME:
            raise MalformedMessage("a label that is none")
        label = message[at : at + length]
        if b"." in label:  # with it, two names would be one to whoever compares them
            raise MalformedMessage("a dot in a label")
        labels.append(label)
        at += length
    if at + 4 > len(message):
        raise MalformedMessage("no type")
    (kind,) = struct.unpack_from(">H", message, at)
    name = b".".join(labels).decode("latin-1").lower()
    return Question(id, flags, name, kind, at + 4)


def reply(
    message: bytes,
    asked: Question,
    records: Sequence[bytes] = (),
    *,
    code: int = NO_ERROR,
    limit: int = 65535,
) -> bytes:
    """An answer with these records; cut off, and flagged so, at limit bytes."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | (asked.flags & (_RECURSION_DESIRED | _OPCODE)) | code
    body = message[12 : asked.end]
    size = 12 + len(body)
    kept: list[bytes] = []
    for record in records:
        size += len(record)
        if size > limit:
            flags |= _TRUNCATED
            break
        kept.append(record)
    return _HEADER.pack(asked.id, flags, 1, len(kept), 0, 0) + body + b"".join(kept)


def address_record(address: IPv4Address | IPv6Address, ttl: int = TTL) -> bytes:
    """A or AAAA for the name in question."""
    kind = A if address.version == 4 else AAAA
    data = address.packed
    return _POINTER_TO_QUESTION + struct.pack(">HHIH", kind, IN, ttl, len(data)) + data


def pointer_record(name: str, ttl: int = TTL) -> bytes:
    """PTR for the address in question."""
    data = encoded_name(name)
    return _POINTER_TO_QUESTION + struct.pack(">HHIH", PTR, IN, ttl, len(data)) + data


def encoded_name(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace")[:63] for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def reversed_address(name: str) -> IPv4Address | IPv6Address | None:
    """The address that `2.0.18.172.in-addr.arpa` or `….ip6.arpa` spells."""
    if name.endswith(".in-addr.arpa"):
        parts = name.removesuffix(".in-addr.arpa").split(".")
        if len(parts) == 4 and all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts):
            return IPv4Address(bytes(int(p) for p in reversed(parts)))
    elif name.endswith(".ip6.arpa"):
        digits = name.removesuffix(".ip6.arpa").split(".")
        if len(digits) == 32 and all(len(d) == 1 and d in "0123456789abcdef" for d in digits):
            return IPv6Address(bytes.fromhex("".join(reversed(digits))))
    return None


def resolved(message: bytes, name: str) -> list[tuple[IPv4Address | IPv6Address, int]]:
    """(address, ttl in seconds) of each A and AAAA that an answer has for the name, over its CNAMEs.

    MalformedMessage when it is an answer to something else, or none.
    """
    if len(message) < 12:
        raise MalformedMessage("shorter than a header")
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if not flags & _RESPONSE or questions != 1:
        raise MalformedMessage("not an answer to one question")
    asked, at = _name_at(message, 12)
    if asked != name:
        raise MalformedMessage("an answer to another question")
    at += 4
    aliases: dict[str, tuple[str, int]] = {}
    addresses: list[tuple[str, IPv4Address | IPv6Address, int]] = []
    for _ in range(answers):
        owner, at = _name_at(message, at)
        if at + 10 > len(message):
            raise MalformedMessage("a record without an end")
        kind, family, ttl, length = struct.unpack_from(">HHIH", message, at)
        at += 10
        data = message[at : at + length]
        if kind == CNAME and family == IN:
            aliases[owner] = (_name_at(message, at)[0], ttl)
        elif kind == A and family == IN and len(data) == 4:
            addresses.append((owner, IPv4Address(data), ttl))
        elif kind == AAAA and family == IN and len(data) == 16:
            addresses.append((owner, IPv6Address(data), ttl))
        at += length
    shortest = {name: _LONGEST_TTL}  # of the way to each name
    while name in aliases and aliases[name][0] not in shortest:
        target, ttl = aliases[name]
        shortest[target] = min(shortest[name], ttl)
        name = target
    return [(address, min(ttl, shortest[owner])) for owner, address, ttl in addresses if owner in shortest]


def _name_at(message: bytes, at: int) -> tuple[str, int]:
    """(the name in lower case, where it ends). Pointers lead backwards only, so that none goes in circles."""
    labels: list[bytes] = []
    end, before, size = 0, at, 0
    while True:
        if at >= len(message):
            raise MalformedMessage("the name has no end")
        length = message[at]
        if length >= 0xC0:
            if at + 2 > len(message):
                raise MalformedMessage("half a pointer")
            target = (length & 0x3F) << 8 | message[at + 1]
            if target >= before:
                raise MalformedMessage("a pointer that does not lead back")
            end, at, before = end or at + 2, target, target
            continue
        at += 1
        if length == 0:
            break
        size += length + 1
        if length > 63 or at + length > len(message) or size > _LONGEST_NAME:
            raise MalformedMessage("a label that is none")
        labels.append(message[at : at + length])
        at += length
    return b".".join(labels).decode("latin-1").lower(), end or at
