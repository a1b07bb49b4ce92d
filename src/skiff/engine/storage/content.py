"""Immutable blobs named by their digest, and blobs on their way in.

Not a cache: nothing leaves unless deleted. The rule: a blob is visible whole or not at all. On disk this is
an OCI image layout: `oci-layout`, `blobs/sha256/<hex>`, and beside it `ingest/<hex of ref>`.

Durability: `commit` renames without fsync, because a flush per blob costs more than fetching a small one.
Whoever records a name that leads to blobs calls `sync()` once before; a blob that a power failure cut short
is then one that no name leads to, and is found by its size: callers who know the size (a descriptor) compare
it with `info`.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

from msgspec import Struct

from skiff.errors import Conflict, DigestMismatch, InvalidParameter, NotFound
from skiff.linux import libc
from skiff.oci.digest import Digest, encoded, parse

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY = Digest("sha256:" + hashlib.sha256(b"").hexdigest())
_REREAD_BYTES = 1 << 20


class BlobInfo(Struct, frozen=True):
    """size in bytes."""

    digest: Digest
    size: int


class Ingest(Protocol):
    """A blob on its way in. offset: bytes held already; write continues there."""

    offset: int

    def write(self, chunk: bytes | memoryview) -> None: ...

    def digest(self) -> Digest:
        """Of what is held: the blob's, if it is committed now."""
        ...

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        """Make the blob visible; DigestMismatch, and the held bytes are gone, when it is not the one
        expected.
        """
        ...

    def abort(self) -> None:
        """Drop the held bytes."""
        ...

    def close(self) -> None:
        """Let go, keeping the held bytes for a later ingest of the same ref. Does nothing after commit or
        abort.
        """
        ...


class ContentStore(Protocol):
    """Immutable blobs named by digest. A blob is visible whole or not at all."""

    def open(self, digest: Digest) -> BinaryIO:
        """Unbuffered, at offset 0. NotFound."""
        ...

    def info(self, digest: Digest) -> BlobInfo:
        """NotFound."""
        ...

    def path(self, digest: Digest) -> str:
        """Where the bytes are, for readers that need no copy. NotFound."""
        ...

    def ingest(self, ref: str) -> Ingest:
        """The same ref resumes at `.offset`, also after a restart. Conflict while another holds it."""
        ...

    def scratch(self) -> BinaryIO:
        """A file without a name, beside the blobs; gone when it is closed."""
        ...

    def delete(self, digest: Digest) -> None:
        """NotFound."""
        ...

    def walk(self) -> Iterator[BlobInfo]: ...

    def sync(self) -> None:
        """Return when everything committed so far survives a power failure, snapshots on the same file
        system included.
        """
        ...


class FileContent:
    """A ContentStore in a directory."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._blobs = f"{root}/blobs/sha256"
        self._ingest = f"{root}/ingest"
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        os.makedirs(self._ingest, mode=0o700, exist_ok=True)
        try:
            fd = os.open(f"{root}/oci-layout", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return
        with os.fdopen(fd, "wb") as layout:
            layout.write(LAYOUT)

    def open(self, digest: Digest) -> BinaryIO:
        try:
            return open(self._where(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise _missing(digest) from None

    def info(self, digest: Digest) -> BlobInfo:
        where = self._where(digest)
        try:
            size = os.stat(where).st_size
        except FileNotFoundError:
            raise _missing(digest) from None
        if not size and digest != EMPTY:  # a power failure after the rename, before the data
            os.unlink(where)
            raise _missing(digest)
        return BlobInfo(digest, size)

    def path(self, digest: Digest) -> str:
        self.info(digest)
        return self._where(digest)

    def ingest(self, ref: str) -> "FileIngest":
        return FileIngest(f"{self._ingest}/{hashlib.sha256(ref.encode()).hexdigest()}", self._blobs, ref)

    def scratch(self) -> BinaryIO:
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._ingest))

    def delete(self, digest: Digest) -> None:
        try:
            os.unlink(self._where(digest))
        except FileNotFoundError:
            raise _missing(digest) from None

    def walk(self) -> Iterator[BlobInfo]:
        with os.scandir(self._blobs) as entries:
            for entry in entries:
                try:
                    yield BlobInfo(Digest(f"sha256:{entry.name}"), entry.stat().st_size)
                except FileNotFoundError:  # deleted while we walk
                    continue

    def sync(self) -> None:
        # one flush for all of a pull's blobs and layers; os.sync() would flush every file system of the host
        descriptor = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libc.check(libc.libc.syncfs(descriptor), "syncfs", self._blobs)
        finally:
            os.close(descriptor)

    def abandoned(self, older_than_ns: int) -> int:
        """Drop ingests nobody holds and nobody wrote to since that instant (ns since the epoch); how many."""
        dropped = 0
        for name in os.listdir(self._ingest):
            try:
                fd = os.open(f"{self._ingest}/{name}", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                if os.fstat(fd).st_mtime_ns < older_than_ns:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(f"{self._ingest}/{name}")
                    dropped += 1
            except BlockingIOError:
                continue  # in use
            finally:
                os.close(fd)
        return dropped

    def _where(self, digest: Digest) -> str:
        if parse(digest)[:7] != "sha256:":
            raise InvalidParameter(f"unsupported digest {digest}: expected sha256")
        return f"{self._blobs}/{encoded(digest)}"


class FileIngest:
    """An Ingest in a file. The file is the state: its length is the offset, its lock says that someone
    writes.
    """

    def __init__(self, path: str, blobs: str, ref: str) -> None:
        self._path = path
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self._fd = _lock(path, ref)
        self.offset = 0
        while held := os.read(self._fd, _REREAD_BYTES):
            self._hash.update(held)
            self.offset += len(held)

    def write(self, chunk: bytes | memoryview) -> None:
        self._hash.update(chunk)
        rest = memoryview(chunk)
        self.offset += rest.nbytes
        while rest.nbytes:
            rest = rest[os.write(self._fd, rest) :]

    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        digest = self.digest()
        if size is not None and size != self.offset:
            held = self.offset
            self.abort()
            raise DigestMismatch(f"the blob has {held} bytes: expected {size}")
        if expected is not None and expected != digest:
            self.abort()
            raise DigestMismatch(f"the blob has digest {digest}: expected {expected}")
        os.fchmod(self._fd, 0o444)
        os.rename(self._path, f"{self._blobs}/{encoded(digest)}")
        self.close()
        return digest

    def abort(self) -> None:
        if self._fd >= 0:
            os.unlink(self._path)
            self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            self.close()


def _lock(path: str, ref: str) -> int:
    """The ingest's file, locked. Conflict."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                return fd
        except BlockingIOError:
            os.close(fd)
            raise Conflict(f"ingest {ref} is in progress already") from None
        except FileNotFoundError:  # committed or aborted between our open and our lock
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _missing(digest: str) -> NotFound:
    return NotFound(f"blob {digest}: not found")
