"""Save: images as one tar that is both an OCI image layout and a docker-archive.

Nothing in it depends on when it is written: the same images give the same bytes. Layers go in as they are
kept; one whose blob is gone is made again from its snapshot and must come to the same digest.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO

import msgspec

from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.rebuilding import PIECE, rebuilt
from skiff.engine.storage import compression, tarwriter
from skiff.engine.storage.content import LAYOUT, ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.engine.storage.snapshots import Snapshotter
from skiff.errors import NotFound
from skiff.oci import digest as digests
from skiff.oci import manifest as manifests
from skiff.oci import platform as platforms
from skiff.oci.digest import Digest, ImageID, encoded
from skiff.oci.image import parse as parse_config
from skiff.oci.manifest import Descriptor, Index, Manifest
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference, parse

_HEAD = 18  # bytes that tell a compression
_TYPES = {"gzip": manifests.OCI_LAYER_GZIP, "zstd": manifests.OCI_LAYER_ZSTD}


class Saver:
    def __init__(self, names: Names, content: ContentStore, snapshots: Snapshotter, leases: Leases) -> None:
        self._names = names
        self._content = content
        self._snapshots = snapshots
        self._leases = leases

    async def save(
        self,
        wanted: Sequence[str],
        platform: Platform | None = None,
        *,
        called: Sequence[Reference] | None = None,
    ) -> AsyncIterator[bytes]:
        """The archive of the images called so; a bare repository means all its tags. NotFound.

        platform: what each image must be for. called: the names that the archive gives to the image
        wanted, in place of those it has here. What is wrong with the names is raised before the first chunk.
        """
        images = self._images(wanted)
        if platform:
            self._must_serve(platform, images)
        with self._leases.hold(*images) as lease, ExitStack() as scratch:
            documents: dict[str, bytes] = {}
            blobs: dict[Digest, int] = {}
            again: dict[Digest, BinaryIO] = {}
            found = []
            for id, references in images.items():
                row = self._names.image(id)
                references = references if called is None else list(called)
                layers = [
                    await asyncio.to_thread(self._layer, layer, again, scratch, lease) for layer in row.layers
                ]
                blobs |= {layer.digest: layer.size for layer in layers}
                found.append(self._describe(row, layers, references, documents))
            documents |= _tables(found)
            yield tarwriter.header(b"5", b"blobs/", mode=0o755)
            yield tarwriter.header(b"5", b"blobs/sha256/", mode=0o755)
            inner = {name for name in documents if "/" in name}
            for name in sorted(inner | {f"blobs/sha256/{encoded(blob)}" for blob in blobs}):
                if name in documents:
                    yield _file(name, documents[name])
                    continue
                digest = Digest(f"sha256:{name.rpartition('/')[2]}")
                async for chunk in self._blob(name, digest, blobs[digest], again.get(digest)):
                    yield chunk
            for name in sorted(documents.keys() - inner):
                yield _file(name, documents[name])
            yield tarwriter.END

    def _images(self, wanted: Sequence[str]) -> dict[ImageID, list[Reference]]:
        images: dict[ImageID, list[Reference]] = {}
        for text in wanted:
            named = self._tags_of(text)
            if not named:
                try:
                    id, reference = self._names.find(text)
                except NotFound:
                    raise NotFound(f"No such image: {text}") from None
                named = [(id, reference if reference and reference.tag else None)]
            for id, reference in named:
                references = images.setdefault(id, [])
                if reference and reference not in references:
                    references.append(reference)
        return images

    def _must_serve(self, platform: Platform, images: Iterable[ImageID]) -> None:
        for id in images:
            with self._content.open(Digest(id)) as blob:
                config = parse_config(blob.read())
            if not platforms.serves(config.platform, platform):
                raise NotFound(f"no suitable export target found for platform {platform}")

    def _tags_of(self, text: str) -> list[tuple[ImageID, Reference | None]]:
        """Every tag of a bare repository; nothing for any other name."""
        if self._names.by_prefix(text) and len(text) >= 12:
            return []
        reference = parse(text)
        if not reference.is_bare:
            return []
        return [
            (row.id, one)
            for row in self._names.images()
            for one in self._names.references(row.id)
            if one.tag and one.name == reference.name
        ]

    def _layer(
        self, layer: LayerRow, again: dict[Digest, BinaryIO], scratch: ExitStack, lease: HeldLease
    ) -> Descriptor:
        """As it is kept, or made again into a file of `again`."""
        return self._kept(layer, lease) or self._rebuilt(layer, again, scratch)

    def _kept(self, layer: LayerRow, lease: HeldLease) -> Descriptor | None:
        """Where a layer's bytes are, if they are."""
        if layer.blob is None:
            return None
        lease.add(layer.blob)
        try:
            size = self._content.info(layer.blob).size
        except NotFound:
            return None
        with self._content.open(layer.blob) as blob:
            kind = compression.detect(blob.read(_HEAD))
        return Descriptor(_TYPES.get(kind, manifests.OCI_LAYER), layer.blob, size)

    def _rebuilt(self, layer: LayerRow, again: dict[Digest, BinaryIO], scratch: ExitStack) -> Descriptor:
        """The layer's tar from its snapshot. DigestMismatch when it cannot be had to the byte."""
        digest = Digest(layer.diff_id)
        if digest not in again:
            file = scratch.enter_context(self._content.scratch())
            for piece in rebuilt(layer, self._snapshots):
                file.write(piece)
            again[digest] = file
        return Descriptor(manifests.OCI_LAYER, digest, again[digest].seek(0, os.SEEK_END))

    def _describe(
        self,
        row: ImageRow,
        layers: Sequence[Descriptor],
        references: Sequence[Reference],
        documents: dict[str, bytes],
    ) -> tuple[ImageRow, Sequence[Descriptor], Sequence[Reference], Descriptor]:
        """Puts config and manifest among the documents."""
        with self._content.open(Digest(row.id)) as blob:
            config = blob.read()
        manifest = Manifest(
            schema_version=2,
            media_type=manifests.OCI_MANIFEST,
            config=Descriptor(manifests.OCI_CONFIG, Digest(row.id), len(config)),
            layers=tuple(layers),
        )
        document = msgspec.json.encode(manifest)
        digest = digests.of(document)
        documents[f"blobs/sha256/{encoded(row.id)}"] = config
        documents[f"blobs/sha256/{encoded(digest)}"] = document
        return row, layers, references, Descriptor(manifests.OCI_MANIFEST, digest, len(document))

    async def _blob(
        self, name: str, digest: Digest, size: int, made: BinaryIO | None
    ) -> AsyncIterator[bytes]:
        yield tarwriter.header(b"0", name.encode(), mode=0o644, size=size)
        with made or self._content.open(digest) as blob:
            blob.seek(0)
            while chunk := await asyncio.to_thread(blob.read, PIECE):
                yield chunk
        if padding := tarwriter.padding(size):
            yield padding


def _tables(
    images: Sequence[tuple[ImageRow, Sequence[Descriptor], Sequence[Reference], Descriptor]],
) -> dict[str, bytes]:
    """index.json and oci-layout of the one format, manifest.json and repositories of the other."""
    index: list[Descriptor] = []
    saved: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for row, layers, references, manifest in images:
        for reference in references:
            notes = {
                manifests.CONTAINERD_NAME: str(reference),
                manifests.REFERENCE_NAME: reference.tag or "",
            }
            index.append(Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations=notes))
            if layers:
                tags = repositories.setdefault(reference.familiar_name, {})
                tags[reference.tag or ""] = encoded(row.layers[-1].diff_id)
        if not references:
            index.append(manifest)
        one: dict[str, Any] = {
            "Config": f"blobs/sha256/{encoded(row.id)}",
            "RepoTags": [reference.familiar for reference in references] or None,
            "Layers": [f"blobs/sha256/{encoded(layer.digest)}" for layer in layers],
        }
        one["LayerSources"] = {known.diff_id: layer for known, layer in zip(row.layers, layers, strict=True)}
        saved.append(one)
    documents = {
        "index.json": msgspec.json.encode(
            Index(schema_version=2, media_type=manifests.OCI_INDEX, manifests=tuple(index))
        ),
        "manifest.json": msgspec.json.encode(saved),
        "oci-layout": LAYOUT,
    }
    if repositories:
        documents["repositories"] = msgspec.json.encode(repositories)
    return documents


def _file(name: str, data: bytes) -> bytes:
    return (
        tarwriter.header(b"0", name.encode(), mode=0o644, size=len(data))
        + data
        + tarwriter.padding(len(data))
    )
