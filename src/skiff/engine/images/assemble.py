"""Images made on this machine: a config and layers become an image. Used by commit, import, load and build.

The layers are committed first, then the config is stored, then the row: a crash in between leaves what the
collector finds.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.unpack import Begun, Listener, Unpacker
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.errors import NotFound
from skiff.oci import digest as digests
from skiff.oci import image as images
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID
from skiff.oci.image import ImageConfig, RootFS, chain_id
from skiff.oci.platform import Platform
from skiff.oci.reference import Reference


def _unheard(status: str, current: int = 0, total: int = 0) -> None:
    """For work whose progress nobody draws."""


class Assembler:
    def __init__(
        self, names: Names, content: ContentStore, leases: Leases, unpacker: Unpacker, platform: Platform
    ) -> None:
        self._names = names
        self._content = content
        self._leases = leases
        self._unpacker = unpacker
        self._platform = platform

    async def layer(
        self,
        blob: Digest,
        below: Sequence[DiffID],
        diff_id: DiffID | None = None,
        tell: Listener = _unheard,
        begun: Callable[[], Begun | None] = lambda: None,
        *,
        lease: HeldLease,
        keeps_blob: bool = False,
    ) -> LayerRow:
        """A blob of the content store becomes the committed layer above the diff IDs below. DigestMismatch.

        diff_id: what it must come to; None takes what it comes to.
        lease: the caller's on the blob; it gets the layer, too, and is held until an image stands on it.
        begun: gives its extraction, if that is under way; called when the layer is wanted at all.
        keeps_blob: nobody will slim its image.
        """
        size = self._content.info(blob).size
        parent = chain_id(below)
        if diff_id is None:
            draft = await self._unpacker.extract(
                lambda: self._content.open(blob), None, size, tell, keeps_blob=keeps_blob
            )
            chain = _chain([*below, draft.applied.diff_id])
            lease.add(chain)
            await self._unpacker.commit(draft, chain, parent)
            return LayerRow(chain, draft.applied.diff_id, draft.applied.size, blob, "", size)
        chain = _chain([*below, diff_id])
        lease.add(chain)
        async with self._unpacker.turn(chain, tell) as tell_all:
            if self._unpacker.is_committed(chain):
                known = self._names.layer_size(chain)
                unpacked = known if known is not None else await asyncio.to_thread(self._unpacker.size, chain)
            else:
                ahead = begun() or self._unpacker.begin(
                    await asyncio.to_thread(self._content.open, blob), keeps_blob=keeps_blob
                )
                draft = await self._unpacker.finished(ahead, diff_id, size, tell_all)
                unpacked = draft.applied.size
                await self._unpacker.commit(draft, chain, parent)
        return LayerRow(chain, diff_id, unpacked, blob, "", size)

    async def image(
        self,
        config: ImageConfig | bytes,
        layers: Iterable[LayerRow],
        *,
        names: Iterable[Reference] = (),
        parent: ImageID | None = None,
        manifest: Digest | None = None,
    ) -> ImageID:
        """Store an image. manifest: the blob of the one it came with.

        config: bytes are kept exactly; a value gets its rootfs from the layers.
        """
        rows = tuple(layers)
        if isinstance(config, bytes):
            data = config
        else:
            rootfs = RootFS(diff_ids=tuple(row.diff_id for row in rows))
            data = images.encode(replace(config, rootfs=rootfs))
        id = ImageID(digests.of(data))
        with self._leases.hold(id):
            await asyncio.to_thread(store, self._content, "config", data)
            now = datetime.now(UTC)
            if self._names.has(id):
                known = self._names.image(id)
                row = replace(known, tagged=now, manifest=known.manifest or manifest)
            else:
                row = ImageRow(id, rows, now, parent=parent, tagged=now, manifest=manifest)
            self._names.put(row, [(name, None) for name in names])
        return id


def store(content: ContentStore, what: str, data: bytes) -> Digest:
    """A document into the content store. what: `config`, `manifest`."""
    digest = digests.of(data)
    try:
        if content.info(digest).size == len(data):
            return digest
    except NotFound:
        pass
    # a name of its own: two pulls may store the same document at once
    ingest = content.ingest(f"{what} {digest} {secrets.token_hex(8)}")
    try:
        ingest.write(data)
        return ingest.commit(digest, len(data))
    except BaseException:
        ingest.abort()
        raise


def _chain(diff_ids: Sequence[DiffID]) -> ChainID:
    chain = chain_id(diff_ids)
    assert chain is not None
    return chain
