"""Bytes from a socket or a pipe into a file within the kernel. splice(2)"""

import contextlib
import errno
import fcntl
import os

from skiff.linux.fds import F_SETPIPE_SZ

_ROOM = 1 << 20  # bytes of the pipe in between


class Splice:
    """A pipe that the bytes pass through: from the descriptor source to the descriptor target."""

    def __init__(self) -> None:
        self._exit, self._entry = os.pipe()
        with contextlib.suppress(PermissionError):  # the user has too many large pipes: a small one will do
            fcntl.fcntl(self._entry, F_SETPIPE_SZ, _ROOM)

    def take(self, source: int, size: int) -> int:
        """At least one byte and at most size into the empty pipe; 0 at the end. BlockingIOError: none yet."""
        return os.splice(source, self._entry, min(size, _ROOM))

    def give(self, target: int, size: int) -> None:
        """What was taken."""
        while size:
            try:
                size -= os.splice(self._exit, target, size)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._copy(target, size)  # a file system that can only be written to
                break

    def _copy(self, target: int, size: int) -> None:
        while size:
            data = os.read(self._exit, size)
            size -= len(data)
            while data:
                data = data[os.write(target, data) :]

    def close(self) -> None:
        os.close(self._exit)
        os.close(self._entry)
