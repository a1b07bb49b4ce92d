"""The build cache as it is carried elsewhere: what --cache-to writes and --cache-from reads.

    index.json, oci-layout, blobs/…    an OCI image layout; in a registry, the same manifest under a tag
    its config                         CarriedCache: steps by key, and what they came to
    its layers                         the steps' layers, compressed

An image may have a cache, too: inline.py.

A step is taken over only when its key and what it stands on are the same, and its layer is what it says.
"""

import asyncio
import hashlib
import io
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import BinaryIO

import msgspec
from msgspec import Struct

from skiff.engine.builds import inline
from skiff.engine.builds.carried_steps import CarriedCache, CarriedStep
from skiff.engine.builds.handing import in_threads
from skiff.engine.builds.layering import Layering, above
from skiff.engine.builds.solver import Done
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import seen
from skiff.engine.images.names import LayerRow
from skiff.engine.images.rebuilding import rebuilt
from skiff.engine.images.service import Images
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Registries, Repository
from skiff.engine.storage import compression, tarwriter
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import LAYOUT
from skiff.errors import DigestMismatch, InvalidParameter, NotFound
from skiff.oci import digest as digests
from skiff.oci import image as images
from skiff.oci import manifest as manifests
from skiff.oci import reference as references
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID, encoded
from skiff.oci.manifest import Descriptor, Index, Manifest
from skiff.oci.platform import Platform

LARGEST = 64 << 20  # bytes of a cache's config: about half a million files that steps depend on
CONFIG = "application/vnd.skiff.build-cache.v1+json"


class Packed(Struct, frozen=True):
    """Files ready to leave. blobs: path and size by digest."""

    manifest: bytes
    config: bytes
    blobs: Mapping[Digest, tuple[str, int]]


class Carrier:
    """registries: where caches of type registry are. platform: of the images that have caches inline."""

    def __init__(
        self,
        layering: Layering,
        layers: Layers,
        registries: Registries,
        here: Images,
        platform: Platform,
    ) -> None:
        self._layering = layering
        self._layers = layers
        self._registries = registries
        self._images = here
        self._platform = platform

    def pack(self, steps: Iterable[Done], made: Mapping[str, str], directory: str) -> Packed:
        """Blobs are written into directory. made: as CarriedCache.images. Blocking."""
        os.makedirs(directory, exist_ok=True)
        blobs: dict[Digest, tuple[str, int]] = {}
        known: dict[DiffID, Digest] = {}
        carried = []
        for step in steps:
            blob = None
            if step.layer is not None:
                blob = known.get(step.layer.diff_id)
                if blob is None:
                    blob, path, size = self._blob(step.layer, directory)
                    known[step.layer.diff_id] = blob
                    blobs[blob] = (path, size)
            carried.append(
                CarriedStep(
                    key=step.key,
                    parent=step.parent,
                    above=step.above,
                    text=step.text,
                    parts=step.parts,
                    diff_id=step.layer.diff_id if step.layer else None,
                    size=step.layer.size if step.layer else 0,
                    blob=blob,
                )
            )
        config = msgspec.json.encode(CarriedCache(steps=tuple(carried), images=dict(made)))
        manifest = manifests.encode(
            Manifest(
                schema_version=2,
                media_type=manifests.OCI_MANIFEST,
                config=Descriptor(CONFIG, digests.of(config), len(config)),
                layers=tuple(
                    Descriptor(manifests.OCI_LAYER_GZIP, blob, size) for blob, (_, size) in blobs.items()
                ),
            )
        )
        return Packed(manifest, config, blobs)

    def _blob(self, layer: LayerRow, directory: str) -> tuple[Digest, str, int]:
        path = f"{directory}/{encoded(layer.diff_id)}"
        digest = hashlib.sha256()
        size = 0
        with open(path, "xb") as file:
            for piece in compression.gzipped(rebuilt(layer, self._layering.snapshots)):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
        return Digest(f"sha256:{digest.hexdigest()}"), path, size

    def archive(self, packed: Packed) -> AsyncGenerator[bytes, None]:
        """An OCI layout as a tar."""
        return in_threads(_layout(packed))

    async def push(self, packed: Packed, name: str, credentials: Credentials | None) -> None:
        reference = references.parse(name).tagged()
        target = await self._registries.target(reference, credentials)
        for digest, (path, size) in packed.blobs.items():
            if not await target.holds(digest):
                blob = Descriptor(manifests.OCI_LAYER_GZIP, digest, size)
                await target.upload(blob, partial(_opened, path), lambda sent: None)
        config = Descriptor(CONFIG, digests.of(packed.config), len(packed.config))
        if not await target.holds(config.digest):
            await target.upload(config, lambda: io.BytesIO(packed.config), lambda sent: None)
        await target.put_manifest(reference.identifier, packed.manifest, manifests.OCI_MANIFEST)

    async def from_registry(self, name: str, credentials: Credentials | None, directory: str) -> "Brought":
        """A cache of its own, or an image with an inline cache: its layers are fetched when steps want them.

        NotFound, Unavailable; InvalidParameter: something else is there.
        """
        reference = references.parse(name).tagged()
        repository = self._registries.repository(reference, credentials)
        found = manifests.parse((await repository.resolve(reference.identifier)).data)
        if isinstance(found, Index):
            chosen = manifests.choose(found, self._platform)
            found = manifests.parse((await repository.resolve(chosen.digest)).data)
        if not isinstance(found, Manifest):
            raise InvalidParameter("an index of indexes")
        os.makedirs(directory, exist_ok=True)
        opened = _Remote(repository, directory).open
        if found.config.media_type == CONFIG:
            cache = _cache(await _whole(repository, found.config, LARGEST), found)
            return Brought(cache, _Blobs(self, _blobs(cache, found), opened))
        data = await _whole(repository, found.config, images.LARGEST)
        if digests.of(data) != found.config.digest:
            raise DigestMismatch(f"the image's config is not {found.config.digest}")
        config = images.parse(data)
        own = inline.read(config)
        if own is None:
            raise InvalidParameter("the image has no inline cache")
        blobs = dict(zip(config.diff_ids, found.layers, strict=False))
        return Brought(own, _Blobs(self, blobs, opened), config)

    def from_image(self, id: ImageID) -> "Brought | None":
        """The inline cache of an image that is here; None: it has none. InvalidParameter."""
        config = self._images.config(id)
        cache = inline.read(config)
        return None if cache is None else Brought(cache, _Here(tuple(self._images.layers(id))), config)

    async def from_layout(self, root: str) -> "Brought":
        """root: a directory that a client has sent. InvalidParameter."""
        return await finished(self._from_layout, root)

    def _from_layout(self, root: str) -> "Brought":
        with seen([root]) as tree:
            try:
                index = msgspec.json.decode(tree.read("/index.json"), type=Index)
                manifest = _manifest(tree.read(_place(index.manifests[0].digest)))
            except (msgspec.DecodeError, IndexError) as error:
                raise InvalidParameter(f"not a build cache: {error}") from error
            cache = _cache(tree.read(_place(manifest.config.digest), LARGEST), manifest)
        return Brought(cache, _Blobs(self, _blobs(cache, manifest), _Local(root).open))

    def apply(self, blob: int, diff_id: DiffID, parent: ChainID | None, size: int) -> LayerRow:
        """A layer's blob becomes the committed layer on parent. Blocking. DigestMismatch, HostileArchive."""
        draft = self._layers.extract(blob)
        self._layers.verify(draft, diff_id)
        chain = above(parent, diff_id)
        self._layers.commit(draft, chain, parent)
        return LayerRow(chain, diff_id, size)


class _Local:
    def __init__(self, root: str) -> None:
        self._root = root

    async def open(self, blob: Descriptor) -> int:
        def opened() -> int:
            with seen([self._root]) as tree:
                return tree.open(_place(blob.digest), os.O_RDONLY)

        return await finished(opened)


class _Remote:
    def __init__(self, repository: Repository, directory: str) -> None:
        self._repository = repository
        self._directory = directory

    async def open(self, blob: Descriptor) -> int:
        fd = os.open(f"{self._directory}/{secrets.token_hex(8)}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            async for piece in self._repository.blob(blob):
                await asyncio.to_thread(_write, fd, piece)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd


class _Blobs:
    """Steps' layers as blobs that are opened where they are."""

    def __init__(
        self,
        carrier: Carrier,
        blobs: Mapping[DiffID, Descriptor],
        opened: Callable[[Descriptor], Awaitable[int]],
    ) -> None:
        self._carrier = carrier
        self._blobs = blobs
        self._opened = opened

    async def layer(self, diff_id: DiffID, parent: ChainID | None, size: int) -> LayerRow:
        blob = self._blobs.get(diff_id)
        if blob is None:
            raise NotFound(f"the cache has no layer {diff_id}")
        fd = await self._opened(blob)
        try:
            return await finished(self._carrier.apply, fd, diff_id, parent, size)
        finally:
            os.close(fd)


class _Here:
    """Steps' layers as those of an image that is here."""

    def __init__(self, layers: Sequence[LayerRow]) -> None:
        self._layers = {layer.chain: layer for layer in layers}

    async def layer(self, diff_id: DiffID, parent: ChainID | None, size: int) -> LayerRow:
        layer = self._layers.get(above(parent, diff_id))
        if layer is None:
            raise NotFound(f"the image has no layer {diff_id}")
        return layer


class Brought:
    """A cache from elsewhere, looked into while a build goes on. Layers come when a step wants them.

    config: of the image that has it inline.
    """

    def __init__(
        self, cache: CarriedCache, source: _Blobs | _Here, config: images.ImageConfig | None = None
    ) -> None:
        self._steps = {(step.key, step.parent): step for step in cache.steps}
        self._source = source
        self.images = cache.images
        self.config = config

    def step(self, key: Digest, parent: ChainID | None) -> CarriedStep | None:
        return self._steps.get((key, parent))

    async def layer(self, step: CarriedStep) -> LayerRow | None:
        """The step's layer, committed here; the caller holds a lease on its chain.

        NotFound, DigestMismatch, HostileArchive, Unavailable.
        """
        if step.diff_id is None:
            return None
        return await self._source.layer(step.diff_id, step.parent, step.size)


async def _whole(repository: Repository, blob: Descriptor, most: int) -> bytes:
    """InvalidParameter: it has more bytes than most."""
    data = b""
    async for piece in repository.blob(blob):
        data += piece
        if max(len(data), blob.size) > most:
            raise InvalidParameter(f"a config of {blob.size} bytes: expected at most {most}")
    return data


def _opened(path: str) -> BinaryIO:
    return open(path, "rb")


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _manifest(data: bytes) -> Manifest:
    found = manifests.parse(data)
    if not isinstance(found, Manifest) or found.config.media_type != CONFIG:
        raise InvalidParameter("not a build cache of skiff")
    return found


def _cache(data: bytes, manifest: Manifest) -> CarriedCache:
    if digests.of(data) != manifest.config.digest:
        raise DigestMismatch(f"the build cache's config is not {manifest.config.digest}")
    try:
        return msgspec.json.decode(data, type=CarriedCache)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"not a build cache of skiff: {error}") from error


def _blobs(cache: CarriedCache, manifest: Manifest) -> dict[DiffID, Descriptor]:
    """The layers' blobs by what they unpack to."""
    layers = {layer.digest: layer for layer in manifest.layers}
    return {
        step.diff_id: layers[step.blob]
        for step in cache.steps
        if step.diff_id is not None and step.blob in layers
    }


def _place(digest: Digest) -> str:
    """Where a layout has a blob. InvalidParameter."""
    return f"/blobs/sha256/{encoded(digests.parse(digest))}"


def _layout(packed: Packed) -> Iterator[bytes]:
    manifest = digests.of(packed.manifest)
    index = Index(
        schema_version=2,
        media_type=manifests.OCI_INDEX,
        manifests=(Descriptor(manifests.OCI_MANIFEST, manifest, len(packed.manifest)),),
    )
    for name in ("blobs/", "blobs/sha256/"):
        yield tarwriter.header(b"5", name.encode(), mode=0o755)
    texts = {
        f"blobs/sha256/{encoded(manifest)}": packed.manifest,
        f"blobs/sha256/{encoded(digests.of(packed.config))}": packed.config,
        "index.json": manifests.encode(index),
        "oci-layout": LAYOUT,
    }
    for name, data in texts.items():
        yield tarwriter.header(b"0", name.encode(), mode=0o644, size=len(data)) + data
        yield tarwriter.padding(len(data))
    for digest, (path, size) in packed.blobs.items():
        yield tarwriter.header(b"0", f"blobs/sha256/{encoded(digest)}".encode(), mode=0o644, size=size)
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                yield piece
        yield tarwriter.padding(size)
    yield tarwriter.END
