"""File descriptors: passing them over a unix socket, memory files, close-on-exec, whole ranges.

No policy. Every descriptor made here is close-on-exec.
"""

import array
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterable
from typing import Final, Protocol

from skiff.linux.libc import check, libc

CLOSE_RANGE_CLOEXEC: Final = 4
_SO_SNDBUFFORCE: Final = 32  # socket(7); Python has no name for it
# Of open(2) on this machine, for those who only plan calls.
O_CLOEXEC: Final = os.O_CLOEXEC
O_DIRECTORY: Final = os.O_DIRECTORY
O_PATH: Final = os.O_PATH
O_WRONLY: Final = os.O_WRONLY
MAX_FDS: Final = 16
F_SETPIPE_SZ: Final = 1031

_ITEM: Final = array.array("i").itemsize


def send_packet(sock: socket.socket, data: bytes, fds: Iterable[int] = (), flags: int = 0) -> None:
    """One packet with descriptors riding along; BlockingIOError if it does not fit now. Never SIGPIPE."""
    riders = array.array("i", fds)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, riders)] if riders else []
    sock.sendmsg([data], ancillary, flags | socket.MSG_NOSIGNAL)


def unread(fd: int) -> int:
    """Bytes sent on a socket that its other end has not taken yet, roughly; 0 for none. unix(7), SIOCOUTQ."""
    (left,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))
    return int(left)


def recv_packet(sock: socket.socket, limit: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """One packet (at most `limit` bytes) and the descriptors that came with it; b"" at the end.

    OSError EMSGSIZE for a packet or ancillary data cut short; descriptors that did arrive are closed.
    """
    data, ancillary, got, _ = sock.recvmsg(
        limit, socket.CMSG_LEN(MAX_FDS * _ITEM), flags | socket.MSG_CMSG_CLOEXEC
    )
    fds: list[int] = []
    for level, kind, body in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            riders = array.array("i")
            riders.frombytes(body[: len(body) - len(body) % _ITEM])
            fds.extend(riders)
    if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        close_all(fds)
        raise OSError(90, "packet cut short: message too long")
    return data, fds


def close_all(fds: Iterable[int]) -> None:
    """Close each that is not negative."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def close_range(first: int, last: int = 0xFFFFFFFF, *, on_exec: bool = False) -> None:
    """Close descriptors first..last, or mark them close-on-exec."""
    flags = CLOSE_RANGE_CLOEXEC if on_exec else 0
    check(libc.close_range(first, last, flags), "close_range")


def close_others(keep: Iterable[int], first: int = 3) -> None:
    """Close everything from `first` on but the descriptors to keep."""
    for fd in sorted({fd for fd in keep if fd >= first}):
        if fd > first:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first)


def memory_file(name: str, content: bytes = b"") -> int:
    """A nameless file with that content, its offset at the start. memfd_create(2)."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    if content:
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
    return fd


def widen_pipe(fd: int, size: int) -> None:
    """Ask for a larger pipe buffer; a kernel limit is not an error, the pipe stays as it is."""
    try:
        fcntl.fcntl(fd, F_SETPIPE_SZ, size)
    except PermissionError:
        pass


class _Socket(Protocol):
    @property
    def family(self) -> int: ...

    def setsockopt(self, level: int, name: int, value: int, /) -> None: ...


def widen_socket(stream: _Socket, size: int) -> None:
    """Let so many bytes be on their way in a unix socket before its writer has to wait. No error either."""
    if stream.family == socket.AF_UNIX:
        try:
            stream.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
        except PermissionError:
            pass
