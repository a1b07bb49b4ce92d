"""An archive from a URL, for import: its bytes as they come."""

from collections.abc import AsyncGenerator

import aiohttp

from skiff.errors import InvalidParameter, Unavailable

SECONDS_OF_SILENCE = 60
PIECE = 1 << 18


async def pieces(url: str) -> AsyncGenerator[bytes, None]:
    """url: a bare host and path mean http. InvalidParameter (not http), Unavailable (no such answer)."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        url = f"http://{url}"
    elif scheme not in ("http", "https"):
        raise InvalidParameter(f'Get "{url}": unsupported protocol scheme "{scheme}"')
    patience = aiohttp.ClientTimeout(total=None, sock_read=SECONDS_OF_SILENCE)
    try:
        async with aiohttp.ClientSession(timeout=patience) as session, session.get(url) as reply:
            if reply.status >= 400:
                raise Unavailable(f"got HTTP status code >= 400: {reply.status} {reply.reason}")
            async for piece in reply.content.iter_chunked(PIECE):
                yield piece
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise Unavailable(f'Get "{url}": {error}') from error
