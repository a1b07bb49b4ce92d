"""Digests of what passes by, taken in a thread beside whoever makes it."""

import hashlib
from collections.abc import Iterable
from queue import SimpleQueue
from threading import Semaphore, Thread
from types import TracebackType
from typing import Protocol

_BATCH = 1 << 20  # bytes that are worth a word to another thread


class Digest(Protocol):
    """As hashlib makes them."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


_Batch = list[tuple[Digest, list[bytes | memoryview]]]


class Hasher:
    """`with Hasher() as hasher:` what is added is in its digest by the end of it. One caller at a time; he is
    at most two batches ahead.
    """

    def __init__(self) -> None:
        self._ready: SimpleQueue[_Batch | None] = SimpleQueue()
        self._room = Semaphore(2)
        self._thread: Thread | None = None
        self._batch: _Batch = []
        self._size = 0

    def __enter__(self) -> "Hasher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._ready.put(None)
            self._thread.join()
        if kind is None:
            _update(self._batch)

    def add(self, digest: Digest, data: bytes | memoryview) -> None:
        """data: not to be changed any more."""
        if self._batch and self._batch[-1][0] is digest:
            self._batch[-1][1].append(data)
        else:
            self._batch.append((digest, [data]))
        self._size += len(data)
        if self._size >= _BATCH:
            if self._thread is None:
                self._thread = Thread(target=self._work, daemon=True)
                self._thread.start()
            self._room.acquire()
            self._ready.put(self._batch)
            self._batch, self._size = [], 0

    def _work(self) -> None:
        while (batch := self._ready.get()) is not None:
            _update(batch)
            self._room.release()


def sha256(chunks: Iterable[bytes]) -> str:
    """`sha256:…` of the chunks in their order."""
    digest = hashlib.sha256()
    with Hasher() as hasher:
        for chunk in chunks:
            hasher.add(digest, chunk)
    return f"sha256:{digest.hexdigest()}"


def _update(batch: _Batch) -> None:
    """One update for all that a digest gets: each gives the interpreter away and has to wait for it again."""
    for digest, pieces in batch:
        digest.update(pieces[0] if len(pieces) == 1 else b"".join(pieces))
