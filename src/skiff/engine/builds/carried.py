"""The build cache as it is carried elsewhere: what --cache-to writes and --cache-from reads.

    index.json, oci-layout, blobs/…    an OCI image layout; in a registry, the same manifest under a tag
    its config                         CarriedCache: steps by key, and what they came to
    its layers                         the steps' layers, compressed

A step is taken over only when its key and what it stands on are the same, and its layer is what it says.
"""

import asyncio
import hashlib
import io
import os
import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

import msgspec
from msgspec import Struct

from skiff.engine.builds.handing import in_threads
from skiff.engine.builds.keys import Part
from skiff.engine.builds.layering import Layering, above
from skiff.engine.builds.solver import Done
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import seen
from skiff.engine.images.names import LayerRow
from skiff.engine.images.rebuilding import rebuilt
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Registries, Repository
from skiff.engine.storage import compression, tarwriter
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import LAYOUT
from skiff.errors import DigestMismatch, InvalidParameter, NotFound
from skiff.oci import digest as digests
from skiff.oci import manifest as manifests
from skiff.oci import reference as references
from skiff.oci.digest import ChainID, DiffID, Digest, encoded
from skiff.oci.manifest import Descriptor, Index, Manifest

CONFIG = "application/vnd.skiff.build-cache.v1+json"


class CarriedStep(Struct, frozen=True, kw_only=True):
    """One step. parent: the chain it stands on. diff_id, size and blob: of its layer, unless it has none."""

    key: Digest
    parent: ChainID | None
    above: str
    text: str
    parts: tuple[Part, ...]
    diff_id: DiffID | None = None
    size: int = 0
    blob: Digest | None = None


class CarriedCache(Struct, frozen=True, kw_only=True):
    """images: when the image after a step was first made, by the step's key."""

    steps: tuple[CarriedStep, ...]
    images: dict[str, str]


class Packed(Struct, frozen=True):
    """Files ready to leave. blobs: path and size by digest."""

    manifest: bytes
    config: bytes
    blobs: Mapping[Digest, tuple[str, int]]


class Carrier:
    """registries: where caches of type registry are."""

    def __init__(self, layering: Layering, layers: Layers, registries: Registries) -> None:
        self._layering = layering
        self._layers = layers
        self._registries = registries

    def pack(self, steps: Iterable[Done], images: Mapping[str, str], directory: str) -> Packed:
        """Blobs are written into directory. Blocking."""
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
        config = msgspec.json.encode(CarriedCache(steps=tuple(carried), images=dict(images)))
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
        """NotFound, Unavailable; InvalidParameter: something else is there."""
        reference = references.parse(name).tagged()
        repository = self._registries.repository(reference, credentials)
        fetched = await repository.resolve(reference.identifier)
        manifest = _manifest(fetched.data)
        config = b"".join([piece async for piece in repository.blob(manifest.config)])
        os.makedirs(directory, exist_ok=True)
        return Brought(self, _cache(config, manifest), _sizes(manifest), _Remote(repository, directory))

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
            cache = _cache(tree.read(_place(manifest.config.digest)), manifest)
        return Brought(self, cache, _sizes(manifest), _Local(root))

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


class Brought:
    """A cache from elsewhere, looked into while a build goes on. Layers come when a step wants them."""

    def __init__(
        self, carrier: Carrier, cache: CarriedCache, sizes: Mapping[Digest, int], blobs: _Local | _Remote
    ) -> None:
        self._carrier = carrier
        self._steps = {(step.key, step.parent): step for step in cache.steps}
        self._sizes = sizes
        self._blobs = blobs
        self.images = cache.images

    def step(self, key: Digest, parent: ChainID | None) -> CarriedStep | None:
        return self._steps.get((key, parent))

    async def layer(self, step: CarriedStep) -> LayerRow | None:
        """The step's layer, committed here; the caller holds a lease on its chain.

        NotFound, DigestMismatch, HostileArchive, Unavailable.
        """
        if step.diff_id is None or step.blob is None:
            return None
        size = self._sizes.get(step.blob)
        if size is None:
            raise NotFound(f"the cache has no blob {step.blob}")
        fd = await self._blobs.open(Descriptor(manifests.OCI_LAYER_GZIP, step.blob, size))
        try:
            return await finished(self._carrier.apply, fd, step.diff_id, step.parent, step.size)
        finally:
            os.close(fd)


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


def _sizes(manifest: Manifest) -> dict[Digest, int]:
    return {layer.digest: layer.size for layer in manifest.layers}


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
