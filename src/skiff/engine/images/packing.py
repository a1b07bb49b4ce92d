"""Layers as registries want them: compressed, once, and remembered.

A layer that came as a plain tar (load, import, commit), or that has no blob but its files (a build), is
compressed when it is first pushed; from then on the compressed blob is the layer's only one.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from msgspec import Struct

from skiff.engine.images.names import LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.rebuilding import is_noted, rebuilt
from skiff.engine.storage import compression
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import StateStore
from skiff.errors import NotFound
from skiff.oci import manifest as manifests
from skiff.oci.digest import DiffID, Digest

Form = Literal["gzip", "zstd"]
Compressor = Callable[[Iterable[bytes]], Iterator[bytes]]

_COMPRESSORS: dict[Form, Compressor] = {"gzip": compression.gzipped, "zstd": compression.zstandard}
_TYPES: dict[Form, str] = {"gzip": manifests.OCI_LAYER_GZIP, "zstd": manifests.OCI_LAYER_ZSTD}
_HEAD = 18  # bytes that tell a compression


class FormRow(Struct, frozen=True):
    """A layer's blob in some compression. size: in bytes."""

    blob: Digest
    size: int


class Packer:
    def __init__(
        self,
        state: StateStore,
        names: Names,
        content: ContentStore,
        snapshots: Snapshotter,
        leases: Leases,
        needs: Needs,
    ) -> None:
        self._forms = state.table("layer_form", FormRow)
        self._names = names
        self._content = content
        self._snapshots = snapshots
        self._leases = leases
        self._needs = needs
        self._works: dict[DiffID, asyncio.Task[LayerRow]] = {}

    async def packed(self, layer: LayerRow, lease: HeldLease) -> LayerRow:
        """The layer with a compressed blob and the blob's media type (OCI's word). NotFound, DigestMismatch.

        Callers of the same layer share the work; it goes on when they leave.
        """
        try:
            return await self._packed(layer, lease)
        except NotFound:
            # Another push has packed it between two looks of ours, and its plain bytes have gone.
            now = self._names.layer_in(layer.diff_id)
            if now is None or now.blob == layer.blob:
                raise
            return await self._packed(now, lease)

    async def formed(self, layer: LayerRow, form: Form, lease: HeldLease) -> LayerRow:
        """The layer in a compression of choice; what it is kept in stays as it is. NotFound, DigestMismatch.

        A blob made for this lives as long as the lease, or until `let_go`; how it came out is known for the
        next push.
        """
        if layer.blob is not None and self._holds(layer.blob):
            lease.add(layer.blob)
            if await asyncio.to_thread(self._kind, layer.blob) == form:
                return _as(layer, _TYPES[form])
            plain = self._plain(layer.blob)
        else:
            plain = rebuilt(layer, self._snapshots)
        ref = f"{form} {layer.diff_id} {lease.id}"
        digest, size = await asyncio.to_thread(self._compress, plain, ref, _COMPRESSORS[form], lease)
        self._forms.put(f"{form} {layer.diff_id}", FormRow(digest, size))
        return LayerRow(layer.chain, layer.diff_id, layer.size, digest, _TYPES[form], size)

    def known(self, layer: LayerRow, form: Form) -> LayerRow | None:
        """How the layer came out in that compression before; its blob need not be here."""
        try:
            row = self._forms.get(f"{form} {layer.diff_id}")
        except NotFound:
            return None
        return LayerRow(layer.chain, layer.diff_id, layer.size, row.blob, _TYPES[form], row.size)

    def passing(self, layer: LayerRow) -> Form | None:
        """The form of a layer whose blob was given up: it is not to be kept by the way."""
        return "gzip" if layer.blob is None and is_noted(layer.chain, self._snapshots) else None

    def let_go(self, blobs: Iterable[Digest]) -> None:
        """Blobs that a push has made for itself go, unless somebody else needs them by now."""
        self._needs.drop(set(blobs))

    async def _packed(self, layer: LayerRow, lease: HeldLease) -> LayerRow:
        if layer.blob is None or not self._holds(layer.blob):  # another push has packed it meanwhile
            layer = self._names.layer_in(layer.diff_id) or layer
        if layer.blob is None or not self._holds(layer.blob):
            return await self._shared(layer, None, lease)
        lease.add(layer.blob)
        kind = await asyncio.to_thread(self._kind, layer.blob)
        if kind == "gzip":
            return _as(layer, manifests.OCI_LAYER_GZIP)
        if kind == "zstd":
            return _as(layer, manifests.OCI_LAYER_ZSTD)
        return await self._shared(layer, layer.blob, lease)

    async def _shared(self, layer: LayerRow, blob: Digest | None, lease: HeldLease) -> LayerRow:
        """The layer packed, by one work for all who ask. blob: its plain bytes; None: there are none."""
        work = self._works.get(layer.diff_id)
        if work is None:
            work = self._works[layer.diff_id] = asyncio.ensure_future(self._pack(layer, blob))
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
        packed = await asyncio.shield(work)
        if packed.blob:
            lease.add(packed.blob)
        return packed

    async def _pack(self, layer: LayerRow, blob: Digest | None) -> LayerRow:
        try:
            plain = rebuilt(layer, self._snapshots) if blob is None else self._plain(blob)
            ref = f"gzip {layer.diff_id}"
            with self._leases.hold() as lease:  # ours: whoever asked may leave before it is there
                digest, size = await asyncio.to_thread(self._compress, plain, ref, compression.gzipped, lease)
                packed = LayerRow(
                    layer.chain, layer.diff_id, layer.size, digest, manifests.OCI_LAYER_GZIP, size
                )
                self._names.with_blob(layer.blob, packed)
            if blob and blob not in self._needs.blobs():  # whoever asked leases it, but for this
                self._content.delete(blob)
            return packed
        finally:
            del self._works[layer.diff_id]

    def _plain(self, blob: Digest) -> Iterator[bytes]:
        with self._content.open(blob) as kept:
            yield from compression.decompressed(kept.read)

    def _compress(
        self, plain: Iterator[bytes], ref: str, compressor: Compressor, lease: HeldLease
    ) -> tuple[Digest, int]:
        ingest = self._content.ingest(ref)
        try:
            if ingest.offset:  # of a try that was cut off: the compressor begins anew
                ingest.abort()
                ingest = self._content.ingest(ref)
            for piece in compressor(plain):
                ingest.write(piece)
            size = ingest.offset
            lease.add(ingest.digest())  # before it is there: nothing else leads to it
            return ingest.commit(), size
        except BaseException:
            ingest.abort()
            raise

    def _holds(self, blob: Digest) -> bool:
        try:
            return bool(self._content.info(blob))
        except NotFound:
            return False

    def _kind(self, blob: Digest) -> compression.Compression:
        with self._content.open(blob) as file:
            return compression.detect(file.read(_HEAD))


def _as(layer: LayerRow, media_type: str) -> LayerRow:
    return LayerRow(
        layer.chain, layer.diff_id, layer.size, layer.blob, layer.media_type or media_type, layer.blob_size
    )
