"""A registry's blobs into the content store: resumed where they broke off, verified.

The event loop reads; a thread hashes and writes the previous piece meanwhile.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from skiff.engine.images.unpack import Listener
from skiff.engine.registry.client import Repository
from skiff.engine.storage.content import ContentStore, Ingest
from skiff.errors import DigestMismatch, NotFound
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor

AT_ONCE = 4  # blobs of all pulls together
PIECE = 2 << 20  # bytes hashed and written at once
REPORT_SECONDS = 0.1


class Fetcher:
    def __init__(self, content: ContentStore, *, at_once: int = AT_ONCE) -> None:
        self._content = content
        self._slots = asyncio.Semaphore(at_once)
        self._locks: dict[Digest, tuple[asyncio.Lock, int]] = {}

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here, in its whole length."""
        try:
            return self._content.info(descriptor.digest).size == descriptor.size
        except NotFound:
            return False

    async def fetch(self, source: Repository, descriptor: Descriptor, tell: Listener) -> None:
        """Return when the blob is here. NotFound, Unavailable; DigestMismatch after a second try."""
        async with self._alone(descriptor.digest):
            if self.holds(descriptor):
                return
            if self._slots.locked():
                tell("Waiting")
            async with self._slots:
                try:
                    await self._fetch(source, descriptor, tell)
                except DigestMismatch:  # perhaps bytes kept from a former, broken try
                    await self._fetch(source, descriptor, tell)

    async def _fetch(self, source: Repository, descriptor: Descriptor, tell: Listener) -> None:
        ref = f"blob {descriptor.digest}"
        ingest = await asyncio.to_thread(self._content.ingest, ref)
        try:
            if ingest.offset > descriptor.size:
                ingest.abort()
                ingest = await asyncio.to_thread(self._content.ingest, ref)
            if ingest.offset < descriptor.size:
                await self._stream(source, descriptor, ingest, tell)
            tell("Verifying Checksum")
            await asyncio.to_thread(ingest.commit, descriptor.digest, descriptor.size)
            tell("Download complete")
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                ingest.abort()  # others need the room
            raise
        finally:
            ingest.close()

    async def _stream(
        self, source: Repository, descriptor: Descriptor, ingest: Ingest, tell: Listener
    ) -> None:
        clock = asyncio.get_running_loop().time
        pieces: list[bytes] = []
        held, reported = 0, 0.0
        position = ingest.offset
        writing: asyncio.Future[None] | None = None
        blob = source.blob(descriptor, ingest.offset)
        try:
            async for chunk in blob:
                position += len(chunk)
                if position > descriptor.size:
                    raise DigestMismatch(f"blob {descriptor.digest} is longer than {descriptor.size} bytes")
                pieces.append(chunk)
                held += len(chunk)
                if held >= PIECE:
                    if writing:
                        await asyncio.shield(writing)  # a cancelled pull does not stop the thread
                    writing = asyncio.ensure_future(asyncio.to_thread(_write, ingest, pieces))
                    pieces, held = [], 0
                if clock() - reported >= REPORT_SECONDS:
                    reported = clock()
                    tell("Downloading", position, descriptor.size)
        finally:
            if writing:  # the ingest is not closed under a writing thread; what it wrote will be resumed
                await asyncio.wait({writing})
            if pieces and not (writing and writing.exception()):
                _write(ingest, pieces)
        if writing:
            writing.result()

    @asynccontextmanager
    async def _alone(self, digest: Digest) -> AsyncIterator[None]:
        lock, users = self._locks.get(digest, (asyncio.Lock(), 0))
        self._locks[digest] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(digest)
            if users > 1:
                self._locks[digest] = (lock, users - 1)


def _write(ingest: Ingest, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        ingest.write(piece)
