"""--output: what a finished build is made into, and where it goes.

    image      a name in the image store (what a build without outputs makes)
    registry   the same, pushed
    local tar  the file tree, as a tar that the client takes
    oci docker the image as an archive that the client takes
    cacheonly  nothing

Only `image` and `registry` leave an image behind.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from skiff.engine.builds.handing import Emit, Handing, in_threads
from skiff.engine.builds.layering import Layering
from skiff.engine.builds.request import BuildRequest, Output
from skiff.engine.builds.tree import seen
from skiff.engine.images.service import Images
from skiff.engine.storage import diff
from skiff.errors import InvalidParameter, NotImplementedHere
from skiff.oci import reference as references
from skiff.oci.digest import ChainID, ImageID
from skiff.oci.reference import Reference

_STORED = ("image", "registry")
_KNOWN: Mapping[str, frozenset[str]] = {
    "image": frozenset(("name", "push")),
    "registry": frozenset(("name",)),
    "local": frozenset(),
    "tar": frozenset(),
    "oci": frozenset(("name", "tar")),
    "docker": frozenset(("name", "tar")),
    "cacheonly": frozenset(),
}


class Result(Struct, frozen=True):
    """What was built. chain: its files, None for none at all."""

    id: ImageID
    chain: ChainID | None


def check(request: BuildRequest) -> None:
    """Before anything is built. InvalidParameter, NotImplementedHere."""
    for one in request.outputs:
        if one.type not in _KNOWN:
            raise NotImplementedHere(f"skiff has no build output of type {one.type!r}")
        unknown = one.attributes.keys() - _KNOWN[one.type]
        if unknown:
            raise NotImplementedHere(f"skiff does not do {', '.join(sorted(unknown))} of output {one.type}")
        if _pushes(one) and not _names(one, request):
            raise InvalidParameter("tag is needed when pushing to registry")


def keeps(request: BuildRequest) -> bool:
    """Whether the image stays in the store."""
    return not request.outputs or any(one.type in _STORED for one in request.outputs)


def names(request: BuildRequest) -> list[str]:
    """What the image is called in the store."""
    found = list(request.tags)
    for one in request.outputs:
        if one.type in _STORED:
            found += _names(one, request)
    return list(dict.fromkeys(found))


def _names(one: Output, request: BuildRequest) -> list[str]:
    own = [name for name in one.attributes.get("name", "").split(",") if name]
    return own or list(request.tags)


def _pushes(one: Output) -> bool:
    return one.type == "registry" or (one.type == "image" and one.attributes.get("push") == "true")


class Outputs:
    def __init__(self, images: Images, layering: Layering, handing: Handing) -> None:
        self._images = images
        self._layering = layering
        self._handing = handing

    async def send(self, request: BuildRequest, result: Result, emit: Emit) -> None:
        """All of them, one after the other."""
        for number, one in enumerate(request.outputs):
            if _pushes(one):
                for name in _names(one, request):
                    await self._push(references.parse(name).tagged(), request, emit)
            elif one.type in ("local", "tar"):
                await self._handing.give(number, self._files(result.chain), emit)
            elif one.type in ("oci", "docker"):
                called = [references.parse(name).tagged() for name in _names(one, request)]
                await self._handing.give(number, self._archive(result.id, called), emit)

    async def _push(self, reference: Reference, request: BuildRequest, emit: Emit) -> None:
        credentials = request.credentials.get(reference.domain)
        async for event in self._images.push(
            reference.familiar_name, tag=reference.identifier, credentials=credentials
        ):
            emit(msgspec.to_builtins(event))

    async def _archive(self, id: ImageID, called: Sequence[Reference]) -> AsyncGenerator[bytes, None]:
        async for chunk in self._images.saver.save([id], called=called):
            yield chunk

    async def _files(self, chain: ChainID | None) -> AsyncGenerator[bytes, None]:
        async for chunk in in_threads(_tar(self._layering.stack(chain))):
            yield chunk


def _tar(stack: Sequence[str]) -> Iterator[bytes]:
    with seen(stack) as tree:
        yield from diff.tree_layer(f"/proc/self/fd/{tree.root}/.")
