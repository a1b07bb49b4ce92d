"""Replies that grow: JSON lines and raw streams. Headers leave at once; clients wait for them.

And requests whose body is a stream.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from skiff.engine.api import hijack
from skiff.engine.api.headers import STANDARD
from skiff.engine.storage.uploads import Body
from skiff.errors import InvalidParameter


async def begin(
    request: web.BaseRequest, content_type: str = "application/json", status: int = 200
) -> web.StreamResponse:
    """A reply whose headers have been sent; its body is written by the caller, chunk by chunk."""
    response = web.StreamResponse(status=status, headers={**STANDARD, "Content-Type": content_type})
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def lines(
    request: web.BaseRequest, chunks: AsyncIterator[bytes], content_type: str = "application/json"
) -> web.StreamResponse:
    """Each chunk as it comes. An error before the first one is raised, so that it gets its status."""
    try:
        first = await anext(chunks, None)
        response = await begin(request, content_type)
        if first is not None:
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
    finally:
        if isinstance(chunks, AsyncGenerator):  # a client who leaves ends the work, now
            await chunks.aclose()
    await response.write_eof()
    return response


async def body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The request's body, as it arrives."""
    while chunk := await request.content.readany():
        yield chunk


async def whole(request: web.BaseRequest, most: int, what: str) -> bytes:
    """The request's body, in memory. InvalidParameter: it has more bytes than most."""
    pieces, size = [], 0
    async for piece in body(request):
        size += len(piece)
        if size > most:
            raise InvalidParameter(f"{what} is longer than {most} bytes")
        pieces.append(piece)
    return b"".join(pieces)


@asynccontextmanager
async def upload(request: web.BaseRequest) -> AsyncIterator[Body]:
    """The request's body, an archive: still on its socket where that can be given away."""
    connection = request.protocol
    found = connection.upload() if isinstance(connection, hijack.Connection) else None
    if found is None:
        hijack.release(request)
        yield body(request)
        return
    try:
        yield found
    finally:
        found.close()
