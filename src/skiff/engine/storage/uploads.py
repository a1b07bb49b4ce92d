"""A request's body that is still on its socket: no event loop is in the way of a large archive.

    client ──► socket ──► whoever unpacks: a thread, or another process      (chunks.py takes it apart)

The door hands out an Upload when it has parsed the request's head and nothing more.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

from skiff.engine.storage.chunks import LINES, peek
from skiff.errors import HostileArchive


class Upload:
    """A body that nobody has begun to read. stream, early: as for Chunks; the stream is ours.

    done: called once, with whether the body was read exactly to its end.
    """

    def __init__(self, stream: socket.socket, early: bytes, done: Callable[[bool], None]) -> None:
        self.stream = stream
        self.early = early
        self._done: Callable[[bool], None] | None = done

    async def head(self, size: int = 16) -> bytes:
        """The first bytes of the body, which stay to be read; fewer than size only if it is shorter."""
        loop = asyncio.get_running_loop()
        while True:
            peeked = peek(self.early, size)
            if peeked is not None:
                return peeked
            data = await loop.sock_recv(self.stream, LINES)
            if not data:
                raise HostileArchive("unexpected EOF")
            self.early += data

    def close(self, *, ended: bool) -> None:
        """ended: the body was read exactly to its end. Does nothing the second time."""
        done, self._done = self._done, None
        if done is not None:
            self.stream.close()
            done(ended)


Body = Upload | AsyncIterator[bytes]
