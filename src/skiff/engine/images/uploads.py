"""Blobs that clients send to the registry's door: sessions, one ingest each.

    begin ─► append … append ─► finish(digest)        a broken connection keeps what came: ask `held`, go on

A session that nobody touched for an hour is dropped; the engine's end drops them all, and clients begin anew.
What came is under a lease until a manifest names it, for an hour at most.
OCI distribution-spec 1.1, § Pushing blobs.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager

from skiff.engine.storage.content import ContentStore, Ingest
from skiff.engine.storage.leases import Leases
from skiff.errors import DigestMismatch, NotFound, SkiffError
from skiff.oci.digest import Digest

SESSION_SECONDS = 3600.0
LEASE_SECONDS = 3600.0
MOST_SESSIONS = 1000
PIECE = 2 << 20  # bytes hashed and written at once


class Refusal(SkiffError):
    """A registry's no. code: of the specification's table (`BLOB_UNKNOWN`), which decides the status."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class OutOfOrder(Refusal):
    """The chunk does not continue what is held. held: bytes."""

    def __init__(self, held: int) -> None:
        super().__init__("BLOB_UPLOAD_INVALID", f"the chunk does not begin where the upload ends, at {held}")
        self.held = held


class _Session:
    def __init__(self, ingest: Ingest, repository: str, now: float) -> None:
        self.ingest = ingest
        self.repository = repository
        self.touched = now
        self.lock = asyncio.Lock()
        self.reader: asyncio.Task[object] | None = None  # who waits for bytes of a client

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """A client who asks again has lost the connection before: what it was still sending is over."""
        if self.reader is not None:
            self.reader.cancel()
        async with self.lock:
            yield

    async def take(self, stream: AsyncIterator[bytes]) -> None:
        """Take the stream in: the event loop reads while a thread hashes and writes the previous piece."""
        pieces: list[bytes] = []
        size = 0
        writing: asyncio.Future[None] | None = None
        self.reader = asyncio.current_task()
        try:
            async for chunk in stream:
                pieces.append(chunk)
                size += len(chunk)
                if size >= PIECE:
                    if writing is not None:
                        await asyncio.shield(writing)  # whoever cancels us does not stop the thread
                    writing = asyncio.ensure_future(asyncio.to_thread(_write, self.ingest, pieces))
                    pieces, size = [], 0
        finally:
            self.reader = None  # from here on nobody cancels: what came is written before the next one's turn
            if writing is not None:
                await asyncio.wait({writing})
            if writing is None or writing.exception() is None:
                await asyncio.to_thread(_write, self.ingest, pieces)
        if writing is not None:
            writing.result()


class Uploads:
    def __init__(
        self, content: ContentStore, leases: Leases, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._content = content
        self._leases = leases
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._kept: dict[str, tuple[float, AbstractContextManager[object]]] = {}

    def keep(self, digest: str) -> None:
        """Keep a blob from the collector for the next hour."""
        self._expire()
        until = self._clock() + LEASE_SECONDS
        known = self._kept.get(digest)
        if known is None:
            lease = self._leases.hold(digest)
            lease.__enter__()
            self._kept[digest] = until, lease
        else:
            self._kept[digest] = until, known[1]

    def begin(self, repository: str) -> str:
        """The id of a new session. Refusal when there are too many."""
        self._expire()
        if len(self._sessions) >= MOST_SESSIONS:
            raise Refusal("TOOMANYREQUESTS", f"more than {MOST_SESSIONS} uploads are under way")
        id = secrets.token_hex(16)
        ingest = self._content.ingest(f"upload {id}")
        self._sessions[id] = _Session(ingest, repository, self._clock())
        return id

    async def held(self, repository: str, id: str) -> int:
        """How many bytes of it are here. Refusal."""
        session = self._session(repository, id)
        async with session.alone():
            self._must_be(session, id)
            return session.ingest.offset

    async def append(
        self, repository: str, id: str, stream: AsyncIterator[bytes], start: int | None = None
    ) -> int:
        """Take the stream in; how many bytes are held then. OutOfOrder when start is given and wrong."""
        session = self._session(repository, id)
        async with session.alone():
            self._must_be(session, id)
            if start is not None and start != session.ingest.offset:
                raise OutOfOrder(session.ingest.offset)
            try:
                await session.take(stream)
            except ConnectionError:
                raise
            except OSError:  # the disk is full: who knows what was written
                del self._sessions[id]
                session.ingest.abort()
                raise
            session.touched = self._clock()
            return session.ingest.offset

    async def finish(self, repository: str, id: str, digest: Digest) -> int:
        """The blob is here whole, and the session over; its size. Refusal when it has another digest."""
        session = self._session(repository, id)
        async with session.alone():
            self._must_be(session, id)
            del self._sessions[id]
            size = session.ingest.offset
            self.keep(digest)
            try:
                await asyncio.to_thread(session.ingest.commit, digest)
            except DigestMismatch as error:
                raise Refusal("DIGEST_INVALID", str(error)) from error
            return size

    async def cancel(self, repository: str, id: str) -> None:
        session = self._session(repository, id)
        async with session.alone():
            self._must_be(session, id)
            self._sessions.pop(id).ingest.abort()

    def close(self) -> None:
        """Drop every session."""
        for session in self._sessions.values():
            session.ingest.abort()
        self._sessions.clear()
        for _, lease in self._kept.values():
            lease.__exit__(None, None, None)
        self._kept.clear()

    def _session(self, repository: str, id: str) -> _Session:
        session = self._sessions.get(id)
        if session is None or session.repository != repository:
            raise Refusal("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        session.touched = self._clock()
        return session

    def _must_be(self, session: _Session, id: str) -> None:
        """Another request may have ended it while we waited for our turn."""
        if self._sessions.get(id) is not session:
            raise Refusal("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")

    def _expire(self) -> None:
        now = self._clock()
        for id, session in list(self._sessions.items()):
            if now - session.touched > SESSION_SECONDS and not session.lock.locked():
                del self._sessions[id]
                session.ingest.abort()
        for digest, (until, lease) in list(self._kept.items()):
            if now > until:
                del self._kept[digest]
                lease.__exit__(None, None, None)


def _write(ingest: Ingest, pieces: list[bytes]) -> None:
    for piece in pieces:
        ingest.write(piece)


def holds(content: ContentStore, digest: str) -> bool:
    try:
        return bool(content.info(Digest(digest)))
    except NotFound:
        return False
