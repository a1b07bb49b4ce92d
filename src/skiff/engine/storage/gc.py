"""Garbage: what may be deleted (pure), and the sweep that deletes it.

Roots are what names lead to (image manifests, containers' snapshots); edges lead from a thing to what it
needs. The rule: a thing under a lease, or needed by one, stays; the leases are read after the list of all
things, and the roots after the leases.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.snapshots import SnapshotInfo, Snapshotter
from skiff.errors import Conflict, NotFound
from skiff.oci.digest import ChainID, Digest

T = TypeVar("T", bound=Hashable)


def unreachable(
    roots: Iterable[T], edges: Mapping[T, Iterable[T]], leases: Iterable[T], all: Iterable[T]
) -> set[T]:
    """Those of all that neither a root nor a lease leads to."""
    reached: set[T] = set()
    pending = [*roots, *leases]
    while pending:
        node = pending.pop()
        if node not in reached:
            reached.add(node)
            pending.extend(edges.get(node, ()))
    return set(all) - reached


class Swept(Struct, frozen=True):
    """What a collection removed. bytes: of blobs and snapshots together."""

    blobs: tuple[Digest, ...]
    snapshots: tuple[ChainID, ...]
    bytes: int


class Collector:
    """Deletes blobs and committed snapshots that nothing leads to. Active snapshots belong to whoever made
    them.
    """

    def __init__(
        self,
        content: ContentStore,
        snapshots: Snapshotter,
        leases: Leases,
        roots: Callable[[], Iterable[str]],
        edges: Callable[[], Mapping[str, Iterable[str]]],
    ) -> None:
        """roots: digests and chain IDs in use by name. edges: digest → digests and chain IDs it needs."""
        self._content = content
        self._snapshots = snapshots
        self._leases = leases
        self._roots = roots
        self._edges = edges

    def garbage(self) -> tuple[list[Digest], list[ChainID]]:
        """What a collection would delete: blobs, and snapshots with children before parents."""
        blobs, infos, garbage = self._marked()
        parents = {info.id: info.parent for info in infos if info.id in garbage}
        return [one for one in blobs if one in garbage], [ChainID(one) for one in _leaves_first(parents)]

    def collect(self) -> Swept:
        blobs, infos, garbage = self._marked()
        freed = 0
        swept_blobs: list[Digest] = []
        for digest in blobs:
            if digest not in garbage or digest in self._leases.held():  # someone wants it since we looked
                continue
            try:
                self._content.delete(digest)
            except NotFound:
                continue
            swept_blobs.append(digest)
            freed += blobs[digest]
        swept: list[ChainID] = []
        for name in _leaves_first({i.id: i.parent for i in infos if i.id in garbage}):
            if name in self._leases.held():
                continue
            try:
                size = self._snapshots.usage(ChainID(name)).bytes
                self._snapshots.remove(ChainID(name))
            except (Conflict, NotFound):  # someone built on it, or removed it, while we looked
                continue
            swept.append(ChainID(name))
            freed += size
        return Swept(tuple(swept_blobs), tuple(swept), freed)

    def _marked(self) -> tuple[dict[Digest, int], list[SnapshotInfo], set[str]]:
        """Blobs with sizes, snapshots, and the ids of those that nothing leads to."""
        blobs = {blob.digest: blob.size for blob in self._content.walk()}
        infos = list(self._snapshots.walk())
        # The order matters: a lease ends after its thing has got a name. Who is no longer in the leases is
        # in the roots, if it is anywhere.
        held = self._leases.held()
        edges: dict[str, list[str]] = {id: list(needs) for id, needs in self._edges().items()}
        for info in infos:
            if info.parent is not None:
                edges.setdefault(info.id, []).append(info.parent)
        in_use = [info.id for info in infos if info.kind != "committed"]
        committed = [info.id for info in infos if info.kind == "committed"]
        return blobs, infos, unreachable([*self._roots(), *in_use], edges, held, [*blobs, *committed])


def _leaves_first(parents: Mapping[str, str | None]) -> list[str]:
    def depth(name: str | None) -> int:
        steps = 0
        while name is not None:
            steps += 1
            name = parents.get(name)
        return steps

    return sorted(parents, key=depth, reverse=True)
