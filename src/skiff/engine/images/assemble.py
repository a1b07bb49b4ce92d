"""Images made on this machine: a config and layers become an image. Used by commit, import, load and build.

The layers are committed first, then the config is stored, then the row: a crash in between leaves what the
collector finds.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from msgspec.structs import replace

from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.rebuilding import collected
from skiff.engine.images.unpack import Begun, Listener, Unpacker
from skiff.engine.storage.apply import Draft
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import Leases
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

    async def warm(self) -> None:
        """Get ready for a layer that is still being written."""
        await asyncio.to_thread(self._unpacker.warm)

    async def made(
        self, tar: Iterator[bytes], below: Sequence[DiffID], keep: Callable[[str], None]
    ) -> LayerRow:
        """A plain tar, as it is written, becomes a blob and the committed layer above the diff IDs below.

        keep: protects the blob from the collector.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        blob: Future[Digest] = Future()

        def stored() -> tuple[int, DiffID]:
            with self._content.open(blob.result()) as file:
                return os.dup(file.fileno()), DiffID(blob.result())

        begun = self._unpacker.begin(open(reader, "rb", buffering=0), stored)
        try:
            await asyncio.to_thread(_complete, blob, lambda: self._stored(tar, writer, keep))
        except BaseException:
            self._unpacker.forget(begun)
            raise
        size = self._content.info(blob.result()).size
        draft = await self._unpacker.finished(begun, None, size, _unheard)
        return await self._committed(draft, below, blob.result())

    def _stored(self, tar: Iterator[bytes], copy: int, keep: Callable[[str], None]) -> Digest:
        """The tar as a blob, and each piece of it into the descriptor copy, which is closed."""
        ingest = self._content.ingest(f"layer {secrets.token_hex(16)}")
        pieces = collected(tar)
        try:
            with open(copy, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
                for piece in pieces:
                    ingest.write(piece)
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[pipe.write(rest) :]
            for piece in pieces:  # whoever reads the copy has given up, which is for it to tell
                ingest.write(piece)
            digest = ingest.commit()
            keep(digest)
            return digest
        except BaseException:
            ingest.abort()
            raise

    async def _committed(self, draft: Draft, below: Sequence[DiffID], blob: Digest) -> LayerRow:
        diff_id, size = draft.applied.diff_id, self._content.info(blob).size
        chain = _chain([*below, diff_id])
        with self._leases.hold(chain):
            await self._unpacker.commit(draft, chain, chain_id(below))
        return LayerRow(chain, diff_id, draft.applied.size, blob, "", size)

    async def layer(
        self,
        blob: Digest,
        below: Sequence[DiffID],
        diff_id: DiffID | None = None,
        tell: Listener = _unheard,
        begun: Callable[[], Begun | None] = lambda: None,
    ) -> LayerRow:
        """A blob of the content store becomes the committed layer above the diff IDs below. DigestMismatch.

        diff_id: what it must come to; None takes what it comes to. The caller holds a lease on the blob.
        begun: gives its extraction, if that is under way; called when the layer is wanted at all.
        """
        size = self._content.info(blob).size
        parent = chain_id(below)
        if diff_id is None:
            draft = await self._unpacker.extract(lambda: self._content.open(blob), None, size, tell)
            return await self._committed(draft, below, blob)
        chain = _chain([*below, diff_id])
        async with self._unpacker.turn(chain, tell) as tell_all:
            if self._unpacker.is_committed(chain):
                known = self._names.layer_size(chain)
                unpacked = known if known is not None else await asyncio.to_thread(self._unpacker.size, chain)
            else:
                ahead = begun() or self._unpacker.begin(await asyncio.to_thread(self._content.open, blob))
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
        id = ImageID(await asyncio.to_thread(store, self._content, "config", data))
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


def _complete(future: Future[Digest], work: Callable[[], Digest]) -> None:
    """Do the work; whoever waits for the future hears of its end, however it ends."""
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
        raise
