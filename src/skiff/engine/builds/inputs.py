"""What a build begins from: its Dockerfile and its contexts, wherever they come from, each as a directory."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec import Struct

from skiff.engine.builds import context as contexts
from skiff.engine.builds.context import Context
from skiff.engine.builds.kept import Trees
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.selection import newest
from skiff.engine.builds.threads import finished
from skiff.engine.storage.extractor import Extractor
from skiff.errors import InvalidParameter

_LARGEST_BODY = 32 << 20  # bytes of base64


class Inputs(Struct, frozen=True):
    """contexts: "" is the build's own. images: the named ones that are images, "" for those in contexts.

    ignored: the patterns of .dockerignore. newest_ns: the latest time in any context. caches: the directories
    of caches that the client has sent, by token.
    """

    dockerfile: bytes
    ignored: tuple[str, ...]
    contexts: Mapping[str, Context]
    images: Mapping[str, str]
    newest_ns: int
    caches: Mapping[str, str]


@asynccontextmanager
async def gathered(
    request: BuildRequest, body: AsyncIterator[bytes], extractor: Extractor, trees: Trees, directory: str
) -> AsyncIterator[Inputs]:
    """directory: for what is there for this build alone. InvalidParameter, NotFound: a tree that is gone."""
    async with AsyncExitStack() as held:
        found: dict[str, Context] = {}
        latest = 0
        for name, token in request.trees.items():
            found[name], time = held.enter_context(trees.use(token))
            latest = max(latest, time)
        caches = {}
        for cache in request.cache_from:
            if cache.type == "local":
                caches[cache.tree] = held.enter_context(trees.use(cache.tree))[0].directory
        fresh = []
        if "" in found:
            source, ignored = contexts.sent_dockerfile(await _whole(body), request.dockerfile)
        else:
            found[""] = await _own(request, body, extractor, f"{directory}/context")
            fresh.append(found[""])
            source, ignored = await finished(
                contexts.read_dockerfile, found[""].directory, request.dockerfile
            )
        images = dict.fromkeys((name for name in request.trees if name), "")
        for number, (name, value) in enumerate(request.contexts.items()):
            if contexts.is_remote(value):
                place = f"{directory}/context-{number}"
                found[name] = await contexts.remote(extractor, value, place)
                fresh.append(found[name])
                images[name] = ""
            else:
                images[name] = value
        times = [await finished(newest, one.directory) for one in fresh]
        yield Inputs(source, ignored, found, images, max([latest, *times]), caches)


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    """InvalidParameter: more than a Dockerfile and a .dockerignore may have."""
    pieces, size = [], 0
    async for piece in body:
        size += len(piece)
        if size > _LARGEST_BODY:
            raise InvalidParameter(f"the Dockerfile is sent in more than {_LARGEST_BODY} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def _own(
    request: BuildRequest, body: AsyncIterator[bytes], extractor: Extractor, directory: str
) -> Context:
    if request.remote == "client-session":
        raise InvalidParameter(
            "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) "
            "instead"
        )
    if request.remote:
        return await contexts.remote(extractor, request.remote, directory)
    return await contexts.receive(extractor, body, directory)
