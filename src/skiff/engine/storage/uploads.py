"""A request's body that is still on its socket: no event loop is in the way of a large archive.

    client ──► socket ──► whoever unpacks: a thread, or another process      (chunks.py takes it apart)

The door hands out an Upload when it has parsed the request's head and nothing more.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from skiff.engine.storage.chunks import LINES, peek
from skiff.errors import HostileArchive


class Upload:
    """A body that nobody has begun to read.

    stream: ours. early: what was read of it before. done: called once, with what is still to be read if
    nobody has begun, else None, and with whether the body was read exactly to its end.
    """

    def __init__(
        self, stream: socket.socket, early: bytes, done: Callable[[bytes | None, bool], None]
    ) -> None:
        self._stream = stream
        self._early: bytes | None = early
        self._done: Callable[[bytes | None, bool], None] | None = done

    async def head(self, size: int = 16) -> bytes:
        """The first bytes of the body, which stay to be read; fewer than size only if it is shorter."""
        loop = asyncio.get_running_loop()
        while True:
            assert self._early is not None
            peeked = peek(self._early, size)
            if peeked is not None:
                return peeked
            data = await loop.sock_recv(self._stream, LINES)
            if not data:
                raise HostileArchive("unexpected EOF")
            self._early += data

    def begin(self) -> tuple[socket.socket, bytes]:
        """Stream and early for `Chunks`: from now on the body is the caller's to read, to its end."""
        assert self._early is not None
        early, self._early = self._early, None
        return self._stream, early

    @contextmanager
    def handed_over(self) -> Iterator[tuple[int, int]]:
        """As `begin`, for another process: the stream's descriptor, and that of a file with what is early."""
        stream, early = self.begin()
        with open(os.memfd_create("early", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(early)
            yield stream.fileno(), file.fileno()

    def close(self, *, ended: bool = False) -> None:
        """ended: the body was read exactly to its end. Does nothing the second time."""
        done, self._done = self._done, None
        if done is not None:
            self._stream.close()
            done(self._early, ended)


Body = Upload | AsyncIterator[bytes]
