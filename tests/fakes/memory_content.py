"""A ContentStore in memory."""

import io
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from skiff.engine.storage.content import BlobInfo
from skiff.errors import Conflict, DigestMismatch, NotFound
from skiff.oci.digest import Digest, encoded, of


class MemoryContent:
    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.held: dict[str, bytearray] = {}
        self.busy: set[str] = set()
        self._files: tempfile.TemporaryDirectory[str] | None = None

    def open(self, digest: Digest) -> BinaryIO:
        return io.BytesIO(self._get(digest))

    def info(self, digest: Digest) -> BlobInfo:
        return BlobInfo(digest, len(self._get(digest)))

    def path(self, digest: Digest) -> str:
        data = self._get(digest)
        self._files = self._files or tempfile.TemporaryDirectory(prefix="memory-content-")
        path = f"{self._files.name}/{encoded(digest)}"
        with open(path, "wb") as file:
            file.write(data)
        return path

    def ingest(self, ref: str) -> "MemoryIngest":
        if ref in self.busy:
            raise Conflict(f"ingest {ref} is in progress already")
        return MemoryIngest(self, ref)

    def scratch(self) -> BinaryIO:
        return io.BytesIO()

    def delete(self, digest: Digest) -> None:
        self._get(digest)
        del self.blobs[digest]

    def walk(self) -> Iterator[BlobInfo]:
        for digest, data in list(self.blobs.items()):
            yield BlobInfo(digest, len(data))

    def sync(self) -> None:
        """Memory has nothing to flush."""

    def add(self, data: bytes) -> Digest:
        """For tests: a blob at once."""
        digest = of(data)
        self.blobs[digest] = data
        return digest

    def _get(self, digest: Digest) -> bytes:
        try:
            return self.blobs[digest]
        except KeyError:
            raise NotFound(f"blob {digest}: not found") from None


class MemoryIngest:
    def __init__(self, store: MemoryContent, ref: str) -> None:
        self._store = store
        self._ref = ref
        self._data = store.held.setdefault(ref, bytearray())
        self.offset = len(self._data)
        store.busy.add(ref)

    def write(self, chunk: bytes | memoryview) -> None:
        self._data += chunk
        self.offset = len(self._data)

    def digest(self) -> Digest:
        return of(bytes(self._data))

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        data = bytes(self._data)
        self.abort()
        if (expected is not None and expected != of(data)) or (size is not None and size != len(data)):
            raise DigestMismatch(f"the blob has digest {of(data)}: expected {expected}")
        return self._store.add(data)

    def abort(self) -> None:
        self._store.held.pop(self._ref, None)
        self.close()

    def close(self) -> None:
        self._store.busy.discard(self._ref)
