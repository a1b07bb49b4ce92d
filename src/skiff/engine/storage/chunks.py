"""A body in HTTP's chunks, read from its descriptor by whoever unpacks it: a thread, or another process.

It imports nothing slow: processes are forked with it. RFC 9112 § 7.1.
"""

import os
import select
from collections.abc import Callable
from typing import TypeVar

from skiff.errors import HostileArchive
from skiff.linux.splicing import Splice

T = TypeVar("T", bytes, int)

LONGEST_LINE = 4096  # bytes of a chunk's size with its extensions, or of a trailer
MOST_DRAINED = 64 << 20  # bytes read for nothing, so that the connection can serve on
NOTHING = -1  # in place of a descriptor
PIECE = 1 << 16  # a buffer that the allocator has at hand: for a larger one it asks the kernel each time
LINES = 1 << 18  # read where a size is expected: small chunks come many at once


class _Cut(HostileArchive):
    """The bytes end where more of the body is expected."""


class Chunks:
    """The body behind a descriptor, which may be non-blocking. early: what was read of it before. piece: how
    much of it is read at once.
    """

    def __init__(self, fd: int, early: bytes = b"", *, piece: int = PIECE) -> None:
        self._fd = fd
        self._piece = piece
        self._held = early
        self._at = 0
        self._left = 0  # bytes of the chunk under way
        self._inside = False  # a chunk has begun whose end is not read yet
        self._splice: Splice | None = None
        self.ended = False

    def read(self, size: int) -> bytes:
        """At least one byte and at most size; none at the end. HostileArchive when it is cut or malformed."""
        while not self._left:
            if self.ended:
                return b""
            self._next()
        wanted = min(size, self._left)
        held = len(self._held) - self._at
        if held:
            piece = self._held[self._at : self._at + wanted]
            self._at += len(piece)
        else:
            piece = self._receive(min(wanted, self._piece))
        self._left -= len(piece)
        return piece

    def pour(self, target: int, size: int) -> int:
        """As `read`, but into the file target; how many bytes."""
        while not self._left:
            if self.ended:
                return 0
            self._next()
        if self._at < len(self._held):
            piece = self.read(size)
            _write(target, piece)
            return len(piece)
        if self._splice is None:
            self._splice = Splice()
        splice, wanted = self._splice, min(size, self._left)
        taken = self._waited(lambda: splice.take(self._fd, wanted))
        self._left -= taken  # whether or not there is room for it
        splice.give(target, taken)
        return taken

    def drain(self) -> bool:
        """Read what is left, if that is not much. Whether the body was read exactly to its end."""
        left = MOST_DRAINED
        try:
            while left > 0 and (piece := self.read(PIECE)):
                left -= len(piece)
        except (HostileArchive, OSError):
            return False
        finally:
            self.close()
        return self.ended and self._at == len(self._held)

    def close(self) -> None:
        splice, self._splice = self._splice, None
        if splice is not None:
            splice.close()

    def _next(self) -> None:
        """To the first byte of the next chunk, or to the end."""
        if self._inside and self._line():
            raise HostileArchive("malformed chunked encoding: a chunk is longer than it says")
        digits = self._line().partition(b";")[0].strip()
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise HostileArchive("malformed chunked encoding: expected the size of a chunk")
        self._left = int(digits, 16)
        self._inside = True
        if not self._left:
            while self._line():  # trailers
                pass
            self.ended = True

    def _line(self) -> bytes:
        while (end := self._held.find(b"\n", self._at)) < 0:
            if len(self._held) - self._at > LONGEST_LINE:
                raise HostileArchive("malformed chunked encoding: a line is too long")
            self._held, self._at = self._held[self._at :] + self._receive(LINES), 0
        line = self._held[self._at : end]
        self._at = end + 1
        return line.removesuffix(b"\r")

    def _receive(self, size: int) -> bytes:
        return self._waited(lambda: os.read(self._fd, size))

    def _waited(self, take: Callable[[], T]) -> T:
        """What take gives, once there is something."""
        while self._fd != NOTHING:
            try:
                taken = take()
            except BlockingIOError:
                ready = select.poll()
                ready.register(self._fd, select.POLLIN)
                ready.poll()
                continue
            if not taken:
                break
            return taken
        raise _Cut("unexpected EOF")


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def peek(early: bytes, size: int) -> bytes | None:
    """The first bytes of a body whose chunks begin with early; None when more must come first."""
    chunks = Chunks(NOTHING, early)
    found = b""
    try:
        while len(found) < size and (piece := chunks.read(size - len(found))):
            found += piece
    except _Cut:
        return None
    return found
