"""The trash: what was removed, until its grace ends. Undo, restore, sweep; each noun does its own part.

    rm ──► noun: bin.keep(…) ──► entry ──► undo, restore ──► noun.restore
                                   └──► grace over, share exceeded, emptied ──► noun.expunge ──► collect

A removal costs one row. Everything slow (measuring, deleting, collecting garbage) is done here, later.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from skiff.docker.units import rfc3339
from skiff.engine.storage.removed import Bin, Kept, Removed
from skiff.errors import Conflict, InvalidParameter, NotFound, SkiffError

Shown = dict[str, Any]  # an entry as the API shows it
log = logging.getLogger(__name__)
MOST = 10_000  # entries; small ones cost inodes and rows
QUIET = 1.0  # seconds after a removal before anything is measured or deleted


class Trash:
    """grace: zero keeps nothing. share: of the file system that holds `root`, 0–1.

    collect: delete what nothing leads to any more; called in a thread after entries went.
    """

    def __init__(
        self,
        bin: Bin,
        kept: Sequence[Kept],
        *,
        root: str,
        grace: timedelta,
        share: float,
        collect: Callable[[], object],
        now_ns: Callable[[], int] = time.time_ns,
        quiet: float = QUIET,
    ) -> None:
        self._bin = bin
        self._kept = {one.noun: one for one in kept}
        self._root = root
        self._grace = grace
        self._share = share
        self._collect = collect
        self._now_ns = now_ns
        self._quiet = quiet
        self._lock = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._due = True
        bin.keeping = grace > timedelta(0)
        bin.changed = self._wanted.set

    # -- asked by people -----------------------------------------------------------------------------------

    def list(self) -> Sequence[Shown]:
        """Newest first, as the API shows it."""
        return [self._shown(entry) for entry in reversed(list(self._bin))]

    def usage(self) -> dict[str, int]:
        """Count and bytes; bytes not measured yet count as none."""
        sizes = [entry.bytes for entry in self._bin]
        return {"Count": len(sizes), "Size": sum(size for size in sizes if size > 0), "Limit": self._limit()}

    async def undo(self, count: int = 1) -> Sequence[Shown]:
        """Reverse the last removals, newest first: what came back. NotFound, Conflict."""
        if count < 1:
            raise InvalidParameter(f"invalid count {count}: expected 1 or more")
        acts = list(dict.fromkeys(entry.act for entry in reversed(list(self._bin))))[:count]
        if not acts:
            raise NotFound("nothing to undo: the trash is empty")
        done: Sequence[Shown] = ()
        async with self._lock:
            for act in acts:
                # what was removed last comes first: a container's volumes before the container
                for entry in [one for one in reversed(list(self._bin)) if one.act == act]:
                    done = [*done, *await self._restore(entry, "")]
        return done

    async def restore(self, text: str, name: str = "") -> Sequence[Shown]:
        """One entry, and whatever in the trash it needs. name: another one. NotFound, Conflict."""
        async with self._lock:
            return await self._restore(self._bin.find(text), name)

    async def empty(self, texts: Iterable[str] = ()) -> dict[str, Any]:
        """Delete entries for good; all without a text. What went and the bytes that came free."""
        async with self._lock:
            entries = [self._bin.find(text) for text in texts] or list(self._bin)
            await self._measure()
            entries = [one for one in self._bin if one.id in {entry.id for entry in entries}]
            await self._expunge(entries)
        return {
            "Deleted": [f"{entry.noun} {entry.name}" for entry in entries],
            "SpaceReclaimed": sum(max(entry.bytes, 0) for entry in entries),
        }

    # -- in the background ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """At boot, before anything is served."""
        for kept in self._kept.values():
            kept.settle()

    async def run(self) -> None:
        """Until cancelled. It begins with a collection: an engine that was killed may have left garbage."""
        self._wanted.set()
        while True:
            try:
                async with asyncio.timeout(self._next()):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(self._quiet)
            self._wanted.clear()
            try:
                await self.sweep()
            except Exception:
                log.exception("the trash could not be swept")
                await asyncio.sleep(60)

    def collect_soon(self) -> None:
        """Something else may have become garbage."""
        self._due = True
        self._wanted.set()

    async def sweep(self) -> None:
        """Measure what is new; delete what is too old or too much, oldest first."""
        async with self._lock:
            await self._measure()
            await self._expunge(self._surplus())
            if self._due:
                self._due = False
                await asyncio.to_thread(self._collect)

    def _surplus(self) -> Sequence[Removed]:
        entries = list(self._bin)
        oldest = self._now_ns() - int(self._grace.total_seconds() * 1e9)
        limit, total = self._limit(), sum(max(entry.bytes, 0) for entry in entries)
        count = len(entries)
        gone = []
        for entry in entries:
            if entry.at_ns > oldest and total <= limit and count <= MOST:
                break
            gone.append(entry)
            total -= max(entry.bytes, 0)
            count -= 1
        return gone

    def _next(self) -> float | None:
        """Seconds until the oldest entry's grace ends."""
        oldest = next(iter(self._bin), None)
        if oldest is None:
            return None
        return max(0.0, (oldest.at_ns - self._now_ns()) / 1e9 + self._grace.total_seconds())

    def _limit(self) -> int:
        about = os.statvfs(self._root)
        return int(about.f_blocks * about.f_frsize * self._share)

    async def _measure(self) -> None:
        new = [entry for entry in self._bin if entry.bytes < 0]
        sizes = await asyncio.to_thread(lambda: [self._kept[entry.noun].size(entry) for entry in new])
        for entry, size in zip(new, sizes, strict=True):
            self._bin.measured(entry.id, size)

    async def _expunge(self, entries: Sequence[Removed]) -> None:
        for entry in entries:
            try:
                await self._kept[entry.noun].expunge(entry)
            except (SkiffError, OSError) as error:
                log.warning("the removed %s %s stays: %s", entry.noun, entry.name, error)
                continue
            self._bin.forget(entry.id)
        if entries:
            await asyncio.to_thread(self._collect)

    async def _restore(self, entry: Removed, name: str) -> Sequence[Shown]:
        done: Sequence[Shown] = ()
        if entry.id not in self._bin:
            return done  # it came back already, because something needed it
        for noun, key in entry.needs:
            other = self._bin.latest(noun, key)
            if other is not None:
                try:
                    done = [*done, *await self._restore(other, "")]
                except Conflict:
                    continue  # a thing of that name is there: it is used instead
        try:
            found = await self._kept[entry.noun].restore(entry, name)
        except Conflict as error:
            raise Conflict(
                f"{error}\nTo restore the {entry.noun} under another name: "
                f"skiff trash restore --name NEW {entry.id}"
            ) from error
        self._bin.forget(entry.id)
        return [*done, {**self._shown(entry), "Name": name or entry.name, "Restored": found}]

    def _shown(self, entry: Removed) -> Shown:
        ends = entry.at_ns + int(self._grace.total_seconds() * 1e9)
        return {
            "Id": entry.id,
            "Act": entry.act,
            "Type": entry.noun,
            "Name": entry.name,
            "Key": entry.key,
            "Removed": rfc3339(entry.at_ns),
            "Expires": rfc3339(ends),
            "Size": entry.bytes,
        }
