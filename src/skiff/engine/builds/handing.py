"""What a build hands over to its client while it waits: results by --output and --cache-to, and the wish for
a connection to an agent of the client's (--ssh).

    build ── event {"aux": {…, "Token": token}} ──► client ── another request that names the token ──► build

A token is good once, and as long as the build waits.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from socket import socket
from typing import Any

from skiff.engine.builds.threads import finished
from skiff.errors import InvalidParameter, NotFound, Unavailable

Emit = Callable[[dict[str, Any]], None]
_PIECE = 1 << 18
_AGENT_SECONDS = 30


class Handing:
    """Of every build of this engine."""

    def __init__(self) -> None:
        self._exports: dict[str, _Export] = {}
        self._agents: dict[str, asyncio.Future[socket]] = {}

    async def give(self, number: int, chunks: AsyncGenerator[bytes, None], emit: Emit) -> None:
        """Return when the client has taken them all. number: which of the things that it asked for."""
        token = secrets.token_hex(16)
        export = self._exports[token] = _Export(chunks)
        emit({"aux": {"Export": token, "Number": number}})
        try:
            await export.over
        finally:
            self._exports.pop(token, None)
            export.is_wanted = False
            if not export.is_taken:
                await chunks.aclose()

    async def taken(self, token: str) -> AsyncIterator[bytes]:
        """What is handed over under that token. NotFound."""
        export = self._exports.pop(token, None)
        if export is None:
            raise NotFound(f"no such build export: {token}")
        export.is_taken = True
        try:
            async for chunk in export.chunks:
                if not export.is_wanted:
                    raise Unavailable("the build has ended")
                yield chunk
        except BaseException as error:
            if not export.over.done():
                export.over.set_exception(
                    error if isinstance(error, Exception) else InvalidParameter("the client left")
                )
            raise
        else:
            if not export.over.done():
                export.over.set_result(None)
        finally:
            await export.chunks.aclose()

    async def agent(self, id: str, emit: Emit) -> socket:
        """A connection to the client's agent of that id, ours to close. Unavailable."""
        token = secrets.token_hex(16)
        wanted: asyncio.Future[socket] = asyncio.get_running_loop().create_future()
        self._agents[token] = wanted
        emit({"aux": {"Agent": id, "Token": token}})
        try:
            async with asyncio.timeout(_AGENT_SECONDS):
                return await wanted
        except TimeoutError:
            raise Unavailable(f"the client gave no connection to its ssh agent {id}") from None
        finally:
            self._agents.pop(token, None)

    def expects_agent(self, token: str) -> bool:
        return token in self._agents

    def connected(self, token: str, stream: socket) -> None:
        """The client's connection has come; nobody waits any more: it is closed."""
        wanted = self._agents.pop(token, None)
        if wanted is None or wanted.done():
            stream.close()
        else:
            wanted.set_result(stream)


class _Export:
    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self.chunks = chunks
        self.is_taken = False
        self.is_wanted = True
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()


async def in_threads(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The bytes of a blocking iterator, made in threads, in large pieces."""

    def next_ones() -> bytes:
        held, size = [], 0
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= _PIECE:
                break
        return b"".join(held)

    try:
        while data := await finished(next_ones):
            yield data
    finally:
        if isinstance(pieces, Generator):
            pieces.close()
