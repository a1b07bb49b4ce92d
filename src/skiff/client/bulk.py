"""Bytes that do not pass through this process: files to a socket, a socket to files. sendfile(2), splice(2).

Only plain sockets can do that; with TLS or over ssh the bytes take the usual way. Imported where files are
sent or received.
"""

from __future__ import annotations

import _socket
import errno
import posix
from fcntl import F_SETPIPE_SZ, fcntl

from skiff.client.streams import write_all
from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from skiff.client.connection import Socket

    class Body(Protocol):
        """What can be unpacked: a Response, or one that is watched."""

        def take(self) -> bytes:
            """The next bytes as they come; b"" at the end."""

        def pour(self, fd: int, size: int, /) -> None:
            """The next size bytes into an open file."""


_MOST = 1 << 30  # bytes that one call is asked for
_PIPE = 1 << 20  # bytes
_CANNOT = (errno.EINVAL, errno.ENOSYS)


class FilePart:
    """As many bytes of an open file, from where it stands, as a piece of a body. The descriptor is its
    owner's to close, once the next piece is asked for.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    def __len__(self) -> int:
        return self._size

    def cut(self, size: int) -> Iterator[FilePart]:
        """Itself in parts of at most that size, for one who wants to see them go."""
        for at in range(0, self._size, size):
            yield FilePart(self._fd, min(size, self._size - at))

    def send(self, sock: Socket) -> None:
        left = self._size
        is_plain = type(sock) is _socket.socket
        while left:
            if is_plain:
                sent = posix.sendfile(sock.fileno(), self._fd, None, min(left, _MOST))
            else:
                data = posix.read(self._fd, min(left, 1 << 20))
                sock.sendall(data)
                sent = len(data)
            if not sent:
                raise SkiffError("a file became shorter while it was read")
            left -= sent


def drain(sock: Socket, fd: int, size: int) -> int:
    """Move up to size bytes from a socket into a file. Fewer when the socket has ended, or when these two
    cannot be spliced: then the rest is to be read. OSError.
    """
    done = 0
    if type(sock) is not _socket.socket:
        return done
    reader, writer = posix.pipe()
    try:
        fcntl(writer, F_SETPIPE_SZ, _PIPE)
    except PermissionError:
        pass  # all pipes of this user have had their share: what they get is enough
    try:
        while done < size:
            try:
                held = posix.splice(sock.fileno(), writer, min(size - done, _MOST))
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                break
            if not held:
                break
            done += held
            try:
                while held:
                    held -= posix.splice(reader, fd, held)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                while held:
                    data = posix.read(reader, held)
                    write_all(fd, memoryview(data))
                    held -= len(data)
                break
    finally:
        posix.close(reader)
        posix.close(writer)
    return done
