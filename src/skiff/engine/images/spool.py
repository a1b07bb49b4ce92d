"""An archive's files into blobs, while it streams in. Compressed or not, read once, forward.

A thread parses the tar and writes; the event loop feeds it. Names in the archive are keys of a table, never
paths of this machine.
"""

import asyncio
import posixpath
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import TypeVar

from skiff.engine.storage import tarstream
from skiff.engine.storage.compression import decompressed
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.tarstream import Source
from skiff.errors import InvalidParameter
from skiff.oci.digest import Digest

MOST_ENTRIES = 100_000  # an archive of images has a handful per layer
_MOST_LINKS = 8

T = TypeVar("T")
Add = Callable[[str], None]


class Entries:
    """What an archive held: name → blob. links: name → name."""

    def __init__(self) -> None:
        self.files: dict[str, Digest] = {}
        self.links: dict[str, str] = {}
        self.digests: set[Digest] = set()  # those that were not here before

    def get(self, name: str) -> Digest | None:
        name = _key(name)
        for _ in range(_MOST_LINKS):
            if name not in self.links:
                break
            name = self.links[name]
        return self.files.get(name)

    def must(self, name: str) -> Digest:
        found = self.get(name)
        if found is None:
            raise InvalidParameter(f"invalid archive: {name} is missing")
        return found


class Feed:
    """An async stream, read by a thread. `stop` makes the reader fail instead of waiting for ever."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._rest = memoryview(b"")
        self._waiting: Future[bytes] | None = None
        self._stopped = False

    def read(self, size: int) -> bytes:
        """At most size bytes; none at the end."""
        while not self._rest:
            if self._stopped:
                raise InvalidParameter("the archive's stream was cut")
            self._waiting = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            chunk = self._waiting.result()
            if not chunk:
                return b""
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def stop(self) -> None:
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _next(self) -> bytes:
        async for chunk in self._stream:
            if chunk:
                return chunk
        return b""


async def spool(stream: AsyncIterator[bytes], content: ContentStore, add: Add) -> Entries:
    """Every regular file of the archive as a blob. add: keeps a digest from the collector. HostileArchive."""
    feed = Feed(stream)
    return await _in_thread(feed, lambda: _spool(feed, content, add))


async def spool_one(stream: AsyncIterator[bytes], content: ContentStore, add: Add) -> Digest:
    """The stream itself as a blob, compressed as it came."""
    feed = Feed(stream)
    return await _in_thread(feed, lambda: _whole(feed, content, add))


async def _in_thread(feed: Feed, work: Callable[[], T]) -> T:
    """The result. When the wait is cancelled, the thread has ended before the cancellation goes on."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        feed.stop()
        await asyncio.wait({running})
        running.exception()
        raise


def _spool(feed: Feed, content: ContentStore, add: Add) -> Entries:
    found = Entries()
    source = Source(decompressed(feed.read))
    for count, entry in enumerate(tarstream.entries(source)):
        if count > MOST_ENTRIES:
            raise InvalidParameter(f"invalid archive: more than {MOST_ENTRIES} entries")
        name = _key(entry.name.decode(errors="replace"))
        if entry.type == tarstream.SYMLINK:
            target = entry.link.decode(errors="replace")
            found.links[name] = _key(posixpath.join(posixpath.dirname(name), target))
        elif entry.type == tarstream.LINK:
            found.links[name] = _key(entry.link.decode(errors="replace"))
        elif entry.type == tarstream.REGULAR:
            ingest = content.ingest(f"archive {secrets.token_hex(16)}")
            try:
                for piece in source.pieces(entry.size):
                    ingest.write(piece)
                known = _digest_of(name)
                digest = ingest.commit(known, entry.size)
            except BaseException:
                ingest.abort()
                raise
            add(digest)
            found.files[name] = digest
            found.digests.add(digest)
    source.drain()
    return found


def _whole(feed: Feed, content: ContentStore, add: Add) -> Digest:
    ingest = content.ingest(f"archive {secrets.token_hex(16)}")
    try:
        while chunk := feed.read(1 << 20):
            ingest.write(chunk)
        if not ingest.offset:
            raise InvalidParameter("the archive is empty")
        digest = ingest.commit()
    except BaseException:
        ingest.abort()
        raise
    add(digest)
    return digest


def _key(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _digest_of(name: str) -> Digest | None:
    """The digest that a blob's place in an OCI layout promises."""
    parts = name.split("/")
    if len(parts) == 3 and parts[:2] == ["blobs", "sha256"] and len(parts[2]) == 64:
        return Digest(f"sha256:{parts[2]}")
    return None
