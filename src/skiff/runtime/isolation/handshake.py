"""What init and its parent say to each other while a container comes to be.

A SOCK_SEQPACKET pair; each packet is one letter, then its body. The socket is close-on-exec: its end
tells the parent that execve succeeded.

    init ──MAP──► parent    a user namespace is there: write my id maps           (only with a new one)
    init ──HOOKS► parent    namespaces are there, the root is not yet entered     (only if hooks are wanted)
    init ──READY► parent    all is set up; flags of the namespaces in which it differs from its parent; the
                            terminal's master rides along
    init ──ERROR► parent    StepError as JSON; init ends
    init ◄──GO─── parent    answers MAP and HOOKS
    init ◄─START─ parent    answers READY when the container shall run
"""

import errno
import os
import socket
from collections.abc import Iterable
from typing import Final

from msgspec import json

from skiff.linux import fds
from skiff.runtime.protocol import StepError

MAP: Final = b"M"
HOOKS: Final = b"H"
READY: Final = b"R"
ERROR: Final = b"E"
GO: Final = b"G"
START: Final = b"S"
LIMIT: Final = 8192

_encode = json.Encoder().encode
_decode = json.Decoder(StepError).decode


class StepFailed(Exception):
    """A step of a start did not work. `error` is what the engine is told."""

    def __init__(self, step: str, errno: int = 0, text: str = "") -> None:
        super().__init__(f"{step}: {text}")
        self.error = StepError(step, errno, text)


class InitEnded(StepFailed):
    """Init has ended before it was started."""

    def __init__(self) -> None:
        super().__init__("start", errno.ESRCH, "init has ended before it was started")


class step_failed:
    """Turns an OSError of its body into StepFailed.

    A class, not a generator: it runs forty times per start.
    """

    __slots__ = ("step",)

    def __init__(self, step: str) -> None:
        self.step = step

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StepFailed(self.step, error.errno or 0, reason(error)) from error


def reason(error: OSError) -> str:
    """One sentence: what the kernel said, and the file if known."""
    text = error.strerror or os.strerror(error.errno or 0)
    return f"{text}: {error.filename}" if error.filename else text


def pair() -> tuple[socket.socket, socket.socket]:
    """(parent's end, init's end)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def say(sock: socket.socket, letter: bytes, body: bytes = b"", riders: Iterable[int] = ()) -> None:
    """Send one packet. A parent that is gone is no error of ours: BrokenPipeError tells the caller to end."""
    fds.send_packet(sock, letter + body, riders)


def tell(sock: socket.socket, error: StepError) -> None:
    """Send ERROR: the last words of a child."""
    try:
        say(sock, ERROR, error_body(error))
    except OSError:
        pass  # nobody listens


def hear(sock: socket.socket) -> tuple[bytes, bytes, list[int]]:
    """(letter, body, descriptors); b"" when the other side is gone. ERROR raises its StepFailed."""
    try:
        return answered(sock)
    except ConnectionResetError:
        return b"", b"", []


def answered(sock: socket.socket) -> tuple[bytes, bytes, list[int]]:
    """As hear, but ConnectionResetError when the other side went without reading what was said last."""
    packet, riders = fds.recv_packet(sock, LIMIT)
    if packet[:1] == ERROR:
        fds.close_all(riders)
        raise failed(packet[1:])
    return packet[:1], packet[1:], riders


def expect(sock: socket.socket, letter: bytes) -> None:
    """The next packet must be that letter; ConnectionAbortedError otherwise."""
    got, _, riders = hear(sock)
    fds.close_all(riders)
    if got != letter:
        raise ConnectionAbortedError(103, "the other side of the handshake has gone")


def failed(body: bytes) -> StepFailed:
    """The StepFailed of an ERROR's body."""
    error = _decode(body)
    return StepFailed(error.step, error.errno, error.text)


def error_body(error: StepError) -> bytes:
    """JSON that fits one packet."""
    body = _encode(error)
    if len(body) < LIMIT:
        return body
    return _encode(StepError(error.step[:1000], error.errno, error.text[:1000]))
