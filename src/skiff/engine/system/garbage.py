"""Garbage: one graph of names, images, containers, builds, removed things; what nothing leads to goes.

Each source names its roots and edges; blobs and committed snapshots are the nodes. Active snapshots belong to
whoever made them: those of nobody are found by `check`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from msgspec import Struct

from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.gc import Collector, Swept
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.snapshots import Snapshotter

RESUMABLE = timedelta(days=1)  # how long an ingest that nobody holds may still be resumed

Abandoned = Callable[[int], int]


class Source(Struct, frozen=True):
    """What one noun has by name, and what its things need. Both are called in a thread."""

    roots: Callable[[], Iterable[str]]
    edges: Callable[[], Mapping[str, Iterable[str]]] = dict


class Garbage:
    """abandoned: drop ingests older than an instant (ns since the epoch)."""

    def __init__(
        self,
        content: ContentStore,
        snapshots: Snapshotter,
        leases: Leases,
        layers: Layers,
        abandoned: Abandoned,
        sources: Sequence[Source],
    ) -> None:
        self._snapshots = snapshots
        self._layers = layers
        self._abandoned = abandoned
        self._sources = sources
        self._lock = threading.Lock()
        self._collector = Collector(content, snapshots, leases, self.roots, self.edges)

    def recover(self) -> None:
        """At boot, before any work: what an engine that is gone had half done."""
        self._layers.recover()

    def collect(self) -> Swept:
        """Delete what nothing leads to, and the files of what was removed. Slow: call it in a thread."""
        with self._lock:
            self._abandoned(time.time_ns() - int(RESUMABLE.total_seconds() * 1e9))
            swept = self._collector.collect()
            self._snapshots.sweep()
        return swept

    def unreachable(self) -> tuple[Sequence[str], Sequence[str]]:
        """Blobs and committed snapshots that a collection would delete."""
        return self._collector.garbage()

    def roots(self) -> list[str]:
        return [root for source in self._sources for root in source.roots()]

    def edges(self) -> dict[str, list[str]]:
        merged: dict[str, list[str]] = {}
        for source in self._sources:
            for id, needs in source.edges().items():
                merged.setdefault(id, []).extend(needs)
        return merged
