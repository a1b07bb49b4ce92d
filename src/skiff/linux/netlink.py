"""Netlink: messages as bytes (pure) and a socket that sends a batch of them and reads the answers.

Knows the framing that rtnetlink and nfnetlink share: headers, attributes, acknowledgements, dumps. What the
messages mean stands in links.py and nftables.py. netlink(7), <linux/netlink.h>.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

NETLINK_ROUTE: Final = 0
NETLINK_NETFILTER: Final = 12

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_ROOT: Final = 0x100
NLM_F_MATCH: Final = 0x200
NLM_F_DUMP: Final = NLM_F_ROOT | NLM_F_MATCH
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_CAPPED: Final = 0x100
NLMSGERR_ATTR_MSG: Final = 1

NLA_F_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

SOL_NETLINK: Final = 270
NETLINK_EXT_ACK: Final = 11
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE_BYTES: Final = 1 << 18


class Message(NamedTuple):
    """One request: its type, flags beyond NLM_F_REQUEST, and body (fixed header and attributes)."""

    type: int
    flags: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """A type-length-value, padded to four bytes."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """A number in the machine's byte order, as rtnetlink wants it."""
    return attribute(kind, struct.pack("=I", value))


def be32(kind: int, value: int) -> bytes:
    """A number in network byte order, as nfnetlink wants it."""
    return attribute(kind, struct.pack(">I", value))


def attributes(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type without flags, value) of each attribute from offset on. A malformed tail ends the walk."""
    view = bytes(data[offset:])
    at = 0
    while at + 4 <= len(view):
        length, kind = _ATTRIBUTE.unpack_from(view, at)
        if length < 4 or at + length > len(view):
            return
        yield kind & _TYPE_MASK, view[at + 4 : at + length]
        at += (length + 3) & ~3


def pack(message: Message, sequence: int) -> bytes:
    return (
        _HEADER.pack(16 + len(message.body), message.type, message.flags | NLM_F_REQUEST, sequence, 0)
        + message.body
    )


def unpack(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each message in a datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
        if length < 16 or at + length > len(data):
            return
        yield kind, flags, sequence, data[at + 16 : at + length]
        at += (length + 3) & ~3


def error_of(flags: int, body: bytes) -> tuple[int, str]:
    """(errno or 0, the kernel's own sentence or "") of an NLMSG_ERROR body."""
    (code,) = struct.unpack_from("=i", body)
    said = ""
    if flags & NLM_F_ACK_TLVS:
        (original,) = struct.unpack_from("=I", body, 4)
        offset = 20 if flags & NLM_F_CAPPED else 4 + ((original + 3) & ~3)
        for kind, value in attributes(body, offset):
            if kind == NLMSGERR_ATTR_MSG:
                said = value.rstrip(b"\0").decode(errors="replace")
    return -code, said


def os_error(code: int, said: str, what: str = "") -> OSError:
    sentence = os.strerror(code) + (f" ({said})" if said else "")
    return OSError(code, sentence, what) if what else OSError(code, sentence)


class NetlinkSocket:
    """A netlink socket. It belongs to the network namespace in which it was made, wherever its owner goes."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 1

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, *messages: Message, what: str = "") -> None:
        """Send all in one datagram and read every acknowledgement. OSError of the first that failed."""
        first = self._sequence
        self._sequence += len(messages)
        self._socket.send(
            b"".join(
                pack(m._replace(flags=m.flags | NLM_F_ACK), first + index) for index, m in enumerate(messages)
            )
        )
        waiting = set(range(first, self._sequence))
        failure: OSError | None = None
        while waiting:
            for kind, flags, sequence, body in unpack(self._socket.recv(_RECEIVE_BYTES)):
                if kind == NLMSG_ERROR and sequence in waiting:
                    waiting.discard(sequence)
                    code, said = error_of(flags, body)
                    if code and failure is None:
                        failure = os_error(code, said, what)
        if failure is not None:
            raise failure

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """(type, body) of all parts of the answer to a dump request."""
        sequence = self._sequence
        self._sequence += 1
        self._socket.send(pack(message._replace(flags=message.flags | NLM_F_DUMP), sequence))
        parts: list[tuple[int, bytes]] = []
        while True:
            for kind, flags, answered, body in unpack(self._socket.recv(_RECEIVE_BYTES)):
                if answered != sequence:
                    continue
                if kind == NLMSG_DONE:
                    return parts
                if kind == NLMSG_ERROR:
                    code, said = error_of(flags, body)
                    raise os_error(code or errno.EPROTO, said)
                parts.append((kind, body))

    def get(self, message: Message) -> bytes:
        """The body of the one answer to a request."""
        sequence = self._sequence
        self._sequence += 1
        self._socket.send(pack(message, sequence))
        while True:
            for kind, flags, answered, body in unpack(self._socket.recv(_RECEIVE_BYTES)):
                if answered != sequence:
                    continue
                if kind == NLMSG_ERROR:
                    code, said = error_of(flags, body)
                    raise os_error(code or errno.EPROTO, said)
                return body

    def transaction(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """A batch that the kernel applies whole or not at all (nfnetlink). OSError of the first refusal.

        Only the last message asks for an acknowledgement: an error aborts the batch and is always reported.
        """
        if not messages:
            return
        first = self._sequence
        self._sequence += len(messages) + 2
        last = self._sequence - 2
        packed = [pack(begin, first)]
        for index, message in enumerate(messages, first + 1):
            flags = message.flags | (NLM_F_ACK if index == last else 0)
            packed.append(pack(message._replace(flags=flags), index))
        packed.append(pack(end, self._sequence - 1))
        data = b"".join(packed)
        if len(data) > 1 << 19:
            self._socket.setsockopt(socket.SOL_SOCKET, 32, 2 * len(data))  # SO_SNDBUFFORCE
        self._socket.send(data)
        failure: OSError | None = None
        while True:
            for kind, flags, sequence, body in unpack(self._socket.recv(_RECEIVE_BYTES)):
                if kind != NLMSG_ERROR or not first <= sequence <= last + 1:
                    continue
                code, said = error_of(flags, body)
                if code and failure is None:
                    failure = os_error(code, said, f"message {sequence - first} of {len(messages)}")
                # Answers come in order, so the last message's is the last; a batch refused as a whole
                # (no right, a commit that failed) is answered on its first message alone.
                if sequence in (first, last):
                    if failure is not None:
                        raise failure
                    if sequence == last:
                        return
