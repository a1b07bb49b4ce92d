"""Layers into committed snapshots: extraction side by side, commits from the bottom up.

A layer is named by its place in a stack (its chain ID). Whoever comes second for the same chain waits for the
first, hears its progress, and takes the work over if the first gives up. Every extraction is verified against
the image's diff ID before it is committed.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import BinaryIO, NamedTuple, Protocol

from skiff.engine.storage.apply import Draft, Layers, Stored
from skiff.engine.storage.snapshots import Snapshotter
from skiff.errors import NotFound
from skiff.oci.digest import ChainID, DiffID

AT_ONCE = 2 * (os.cpu_count() or 1)  # extractions; small layers mostly wait for one another
REPORT_SECONDS = 0.1


class Listener(Protocol):
    """Hears of one layer's progress: status, current and total bytes (0, 0: no measure)."""

    def __call__(self, status: str, current: int = 0, total: int = 0) -> None: ...


class _Work:
    """A layer somebody is busy with."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.listeners: list[Listener] = []

    def tell(self, status: str, current: int = 0, total: int = 0) -> None:
        for listener in self.listeners:
            listener(status, current, total)


class Begun(NamedTuple):
    """An extraction under way."""

    blob: BinaryIO
    draft: Future[Draft]


class Unpacker:
    """Makes committed snapshots of layers."""

    def __init__(self, layers: Layers, snapshots: Snapshotter) -> None:
        self._layers = layers
        self._snapshots = snapshots
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="extract")
        self._works: dict[ChainID, _Work] = {}

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    def warm(self) -> None:
        """Get ready while the registry is still being asked."""
        self._layers.warm()

    def is_committed(self, chain: ChainID) -> bool:
        try:
            return self._snapshots.info(chain).kind == "committed"
        except NotFound:
            return False

    def size(self, chain: ChainID) -> int:
        """Bytes that a committed layer occupies."""
        return self._snapshots.usage(chain).bytes

    @asynccontextmanager
    async def turn(self, chain: ChainID, listener: Listener) -> AsyncIterator[Listener]:
        """Be the only one busy with that layer. Yields whom to tell: listener and everyone who waits."""
        work = self._works.setdefault(chain, _Work())
        work.listeners.append(listener)
        try:
            async with work.lock:
                yield work.tell
        finally:
            work.listeners.remove(listener)
            if not work.listeners:
                self._works.pop(chain, None)

    async def extract(
        self,
        open_blob: Callable[[], BinaryIO],
        diff_id: DiffID | None,
        size: int,
        tell: Listener,
        *,
        keeps_blob: bool = False,
    ) -> Draft:
        """Extract a layer and check it against diff_id. size: of the blob, in bytes.

        DigestMismatch, HostileArchive.
        When cancelled the extraction goes on in its thread, and its result is dropped there.
        """
        begun = self.begin(await asyncio.to_thread(open_blob), keeps_blob=keeps_blob)
        return await self.finished(begun, diff_id, size, tell)

    def begin(self, blob: BinaryIO, stored: Stored | None = None, *, keeps_blob: bool = False) -> Begun:
        """The same in two steps: this one from any thread, before anybody knows where the layer belongs. The
        other step is `finished`, or `forget`. blob: is closed when it is read. All else: as Layers.extract.
        """
        return Begun(blob, self._threads.submit(copy_context().run, self._extract, blob, stored, keeps_blob))

    async def finished(self, begun: Begun, diff_id: DiffID | None, size: int, tell: Listener) -> Draft:
        try:
            draft = await self._watched(begun.draft, begun.blob, size, tell)
        except asyncio.CancelledError:
            self.forget(begun)
            raise
        tell("Extracting", size, size)
        if diff_id is not None:
            await asyncio.to_thread(self._layers.verify, draft, diff_id)
        return draft

    def forget(self, begun: Begun) -> None:
        begun.draft.add_done_callback(self._drop)

    async def commit(self, draft: Draft, chain: ChainID, parent: ChainID | None) -> None:
        """Give the layer its place on parent, which must be committed."""
        await asyncio.to_thread(self._layers.commit, draft, chain, parent)

    async def discard(self, draft: Draft) -> None:
        await asyncio.to_thread(self._layers.discard, draft)

    def _extract(self, blob: BinaryIO, stored: Stored | None, keeps_blob: bool) -> Draft:
        with blob:
            return self._layers.extract(blob, stored, keeps_blob=keeps_blob)

    def _drop(self, future: Future[Draft]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._layers.discard(future.result())

    async def _watched(self, future: Future[Draft], blob: BinaryIO, size: int, tell: Listener) -> Draft:
        waiting = asyncio.wrap_future(future)
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=REPORT_SECONDS)
                if done:
                    return waiting.result()
                tell("Extracting", _position(blob), size)
        except asyncio.CancelledError:
            waiting.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise


def _position(blob: BinaryIO) -> int:
    """How far the reader of this blob has come: readers share the offset of the open file."""
    try:
        return blob.tell()
    except (ValueError, OSError):  # closed this instant; or a pipe
        return 0
