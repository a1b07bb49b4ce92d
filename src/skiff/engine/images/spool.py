"""An archive's files into blobs, while it streams in. Compressed or not, read once, forward.

A thread parses the tar and writes; it reads the client's socket itself where it can, else the event loop
feeds it. Names in the archive are keys of a table, never paths of this machine.
"""

import asyncio
import contextlib
import posixpath
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import TypeVar

from skiff.engine.storage import tarstream
from skiff.engine.storage.chunks import Chunks
from skiff.engine.storage.compression import decompressed, detect
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.tarstream import BLOCK, Source
from skiff.engine.storage.uploads import Body, Upload
from skiff.errors import InvalidParameter
from skiff.oci.digest import Digest

MOST_ENTRIES = 100_000  # an archive of images has a handful per layer
_MOST_LINKS = 8
MAGIC = 257  # where a tar's first header says `ustar`

T = TypeVar("T")
Add = Callable[[str], None]
FoundLayer = Callable[[Digest, bool], None]


class Entries:
    """What an archive held: name → blob. links: name → name."""

    def __init__(self) -> None:
        self.files: dict[str, Digest] = {}
        self.links: dict[str, str] = {}
        self.digests: set[Digest] = set()  # of all its files, whether or not they were here before

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
    """A body, read by a thread. `stop` makes the reader fail instead of waiting for ever."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
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

    def drain(self) -> bool:
        return True  # whoever parses HTTP knows where the body ends

    def stop(self) -> None:
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _next(self) -> bytes:
        async for chunk in self._body:
            if chunk:
                return chunk
        return b""


class DirectFeed(Chunks):
    """The same for a body that is still on its socket."""

    def __init__(self, upload: Upload) -> None:
        self._stream, early = upload.begin()
        super().__init__(self._stream.fileno(), early)

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # the client has gone already
            self._stream.shutdown(socket.SHUT_RD)


async def spool(body: Body, content: ContentStore, add: Add, found_layer: FoundLayer) -> Entries:
    """Every regular file of the archive as a blob. add: keeps a digest from the collector. HostileArchive.

    found_layer: called in the thread with each blob that begins as a tar does, and whether it is a plain one.
    """
    return await _in_thread(body, lambda feed: _spool(feed, content, add, found_layer))


async def spool_one(body: Body, content: ContentStore, add: Add) -> Digest:
    """The body itself as a blob, compressed as it came."""
    return await _in_thread(body, lambda feed: _whole(feed, content, add))


async def _in_thread(body: Body, work: Callable[[Feed | DirectFeed], T]) -> T:
    """The result. When the wait is cancelled, the thread has ended before the cancellation goes on."""
    feed = DirectFeed(body) if isinstance(body, Upload) else Feed(body)
    ended = False

    def run() -> T:
        nonlocal ended
        try:
            return work(feed)
        finally:
            ended = feed.drain()

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        feed.stop()
        await asyncio.wait({running})
        running.exception()
        raise
    finally:
        if isinstance(body, Upload):
            body.close(ended=ended)


def _spool(feed: Feed | DirectFeed, content: ContentStore, add: Add, found_layer: FoundLayer) -> Entries:
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
            head = b""
            try:
                for piece in source.pieces(entry.size):
                    if len(head) < BLOCK:
                        head += bytes(piece[:BLOCK])
                    ingest.write(piece)
                known = _digest_of(name)
                add(ingest.digest())
                digest = ingest.commit(known, entry.size)
            except BaseException:
                ingest.abort()
                raise
            found.files[name] = digest
            found.digests.add(digest)
            is_plain = detect(head) == "none"
            if not is_plain or head[MAGIC:].startswith(b"ustar"):
                found_layer(digest, is_plain)
    source.drain()
    return found


def _whole(feed: Feed | DirectFeed, content: ContentStore, add: Add) -> Digest:
    ingest = content.ingest(f"archive {secrets.token_hex(16)}")
    try:
        while chunk := feed.read(1 << 20):
            ingest.write(chunk)
        add(ingest.digest())
        return ingest.commit()
    except BaseException:
        ingest.abort()
        raise


def _key(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _digest_of(name: str) -> Digest | None:
    """The digest that a blob's place in an OCI layout promises."""
    parts = name.split("/")
    if len(parts) == 3 and parts[:2] == ["blobs", "sha256"] and len(parts[2]) == 64:
        return Digest(f"sha256:{parts[2]}")
    return None
