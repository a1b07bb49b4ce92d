"""DNS messages, as much as a resolver for containers needs: read a question, write an answer. Pure.

Questions for names we know are answered from the records; all others are passed on as they came.
RFC 1035 § 4, RFC 3596 (AAAA), RFC 6891 (EDNS: its record in a question is skipped over).
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

A: Final = 1
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
        labels.append(message[at : at + length])
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
