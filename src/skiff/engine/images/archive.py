"""Load and import: images out of tar streams, straight into the content store.

Two layouts, told apart when the stream has ended: `docker save` (manifest.json names configs and layers) and
OCI (index.json, blobs by digest). Archives list their parts in any order, so every file becomes a blob first;
those that no image uses are deleted again.
"""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import msgspec
from msgspec import Struct

from skiff.engine.images import changes as change_lines
from skiff.engine.images.assemble import Assembler
from skiff.engine.images.names import LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.progress import Progress, layer, moving
from skiff.engine.images.reporting import Emit
from skiff.engine.images.spool import Entries, spool, spool_one
from skiff.engine.images.unpack import Begun, Listener, Unpacker
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.engine.storage.uploads import Body
from skiff.errors import InvalidParameter, NotFound
from skiff.oci import image as images
from skiff.oci import manifest as manifests
from skiff.oci import platform as platforms
from skiff.oci.digest import DiffID, Digest, ImageID
from skiff.oci.image import History, ImageConfig, RootFS, RunConfig
from skiff.oci.manifest import Descriptor, Index
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference, parse

_LARGEST_DOCUMENT = 16 << 20  # bytes of manifest.json


class _Saved(Struct, frozen=True, rename="pascal"):
    """One image of manifest.json. layers: paths within the archive, the lowest first."""

    config: str
    repo_tags: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None


class _Ahead:
    """Layers are extracted while the archive still comes in: what it holds of them is told at its end. Those
    whose content is here already are not.
    """

    def __init__(self, unpacker: Unpacker, content: ContentStore, names: Names) -> None:
        self._unpacker = unpacker
        self._content = content
        layers = [layer for row in names.images() for layer in row.layers]
        self._known = {str(layer.diff_id) for layer in layers} | {str(layer.blob) for layer in layers}
        self._begun: dict[Digest, Begun] = {}

    def begin(self, digest: Digest, is_plain: bool) -> None:
        """A blob that may be a layer has come. Called from the thread that reads the archive.

        is_plain: it is not compressed, so its digest is its diff ID already.
        """
        if digest not in self._known and digest not in self._begun:
            stored = partial(self._stored, digest) if is_plain else None
            self._begun[digest] = self._unpacker.begin(self._content.open(digest), stored)

    def _stored(self, digest: Digest) -> tuple[int, DiffID]:
        with self._content.open(digest) as blob:
            return os.dup(blob.fileno()), DiffID(digest)

    def take(self, digest: Digest) -> Begun | None:
        return self._begun.pop(digest, None)

    def __enter__(self) -> "_Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        for begun in self._begun.values():
            self._unpacker.forget(begun)


class _Told(NamedTuple):
    """What goes along with a load. wanted: images for other platforms stay out."""

    emit: Emit
    ahead: _Ahead
    lease: HeldLease
    quiet: bool
    wanted: Platform | None

    def wants(self, config: bytes) -> bool:
        return self.wanted is None or platforms.serves(images.parse(config).platform, self.wanted)


class Loader:
    def __init__(
        self,
        names: Names,
        content: ContentStore,
        leases: Leases,
        unpacker: Unpacker,
        assembler: Assembler,
        platform: Platform,
        needs: Needs,
    ) -> None:
        self._needs = needs
        self._names = names
        self._content = content
        self._leases = leases
        self._unpacker = unpacker
        self._assembler = assembler
        self._platform = platform

    async def load(
        self, stream: Body, platform: Platform | None, emit: Emit, *, quiet: bool
    ) -> list[ImageID]:
        """The images of the archive, in its order. InvalidParameter, HostileArchive, DigestMismatch."""
        came: set[Digest] = set()
        try:
            with self._leases.hold() as lease, _Ahead(self._unpacker, self._content, self._names) as ahead:
                held = await spool(stream, self._content, lease.add, ahead.begin)
                came = held.digests
                told = _Told(emit, ahead, lease, quiet, platform)
                document = held.get("manifest.json")
                if document is not None:
                    return await self._docker(held, self._read(document), told)
                document = held.get("index.json")
                if document is not None:
                    return await self._layout(self._read(document), platform or self._platform, told)
                raise InvalidParameter("invalid archive: expected a manifest.json or an index.json in it")
        finally:  # without a lease of ours: what others hold stays
            await asyncio.to_thread(self._needs.drop, came)

    async def import_tar(
        self,
        stream: Body,
        name: Reference | None,
        message: str,
        changes: Sequence[str],
        platform: Platform | None,
    ) -> ImageID:
        """An image of one layer out of a file system's tar."""
        run = change_lines.apply(RunConfig(), changes)
        with self._leases.hold() as lease:
            blob = await spool_one(stream, self._content, lease.add)
            row = await self._assembler.layer(blob, (), lease=lease, keeps_blob=True)
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            where = platform or self._platform
            comment = message or "Imported from -"
            config = ImageConfig(
                architecture=where.architecture,
                os=where.os,
                variant=where.variant,
                created=now,
                comment=comment,
                config=run,
                rootfs=RootFS(),
                history=(History(created=now, comment=comment),),
            )
            return await self._assembler.image(config, [row], names=[name] if name else ())

    async def _docker(self, held: Entries, document: bytes, told: _Told) -> list[ImageID]:
        try:
            saved = msgspec.json.decode(document, type=tuple[_Saved, ...])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidParameter(f"invalid manifest.json: {error}") from error
        found = []
        for one in saved:
            names = [parse(tag) for tag in one.repo_tags or ()]
            config = self._read(held.must(one.config))
            if not told.wants(config):
                continue
            layers = [held.must(path) for path in one.layers or ()]
            found.append(await self._store(config, layers, names, told))
        return found

    async def _layout(self, document: bytes, platform: Platform, told: _Told) -> list[ImageID]:
        index = manifests.parse(document, manifests.OCI_INDEX)
        assert isinstance(index, Index)
        found = []
        for descriptor in index.manifests:
            if descriptor.is_attestation:
                continue
            chosen = descriptor
            manifest = manifests.parse(self._read(descriptor.digest), descriptor.media_type)
            if isinstance(manifest, Index):
                chosen = manifests.choose(manifest, platform)
                manifest = manifests.parse(self._read(chosen.digest), chosen.media_type)
                if isinstance(manifest, Index):
                    raise InvalidParameter(f"manifest {chosen.digest} is an index within an index")
            config = self._read(manifest.config.digest)
            layers = [one.digest for one in manifest.layers]
            found.append(await self._store(config, layers, _names(descriptor), told, chosen.digest))
        return found

    async def _store(
        self,
        data: bytes,
        blobs: Sequence[Digest],
        names: Sequence[Reference],
        told: _Told,
        manifest: Digest | None = None,
    ) -> ImageID:
        config = images.parse(data)
        if len(config.diff_ids) != len(blobs):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(config.diff_ids)}, got {len(blobs)}"
            )
        rows: list[LayerRow] = []
        for number, (diff_id, blob) in enumerate(zip(config.diff_ids, blobs, strict=True)):
            below = config.diff_ids[:number]
            tell = _listener(told.emit, diff_id, told.quiet)
            begun = partial(told.ahead.take, blob)
            layer = self._assembler.layer(blob, below, diff_id, tell, begun, lease=told.lease)
            rows.append(await layer)
        id = await self._assembler.image(data, rows, names=names, manifest=manifest)
        for name in names:
            told.emit(Progress(stream=f"Loaded image: {name.familiar}\n"))
        if not names:
            told.emit(Progress(stream=f"Loaded image ID: {id}\n"))
        return id

    def _read(self, digest: Digest) -> bytes:
        try:
            if self._content.info(digest).size > _LARGEST_DOCUMENT:
                raise InvalidParameter(f"invalid archive: {digest} is too large for a document")
            with self._content.open(digest) as blob:
                return blob.read()
        except NotFound as error:
            raise InvalidParameter(f"invalid archive: {digest} is missing") from error


def _listener(emit: Emit, diff_id: DiffID, quiet: bool) -> Listener:
    def tell(status: str, current: int = 0, total: int = 0) -> None:
        if quiet:
            return
        id = diff_id[7:19]
        emit(moving("Loading layer", id, current, total) if total else layer("Loading layer", id))

    return tell


def _names(descriptor: Descriptor) -> list[Reference]:
    """What an OCI layout calls an image: containerd's annotation, or a reference name that is a whole one."""
    notes = descriptor.annotations or {}
    text = notes.get(manifests.CONTAINERD_NAME, "")
    if not text:
        text = notes.get(manifests.REFERENCE_NAME, "")
        if "/" not in text and ":" not in text:  # a bare tag names no repository
            return []
    try:
        reference = parse(text)
    except InvalidParameter:
        return []
    return [reference.tagged()] if reference.digest is None else []
