"""What steps came to, by cache key: kept until pruned. The only writer of its tables.

    build_cache  key → the layer a step made, and when      build_parts  key → what went into the key (--why)
    build_step   step key → when the image after a step was first made, so that it gets the same id again

A layer in the cache is under a lease: removing an image spares it. The rule: an entry is written after its
layer is committed, and an entry whose layer is gone is no entry.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.filters import Filters
from skiff.docker.units import parse_time, rfc3339
from skiff.engine.builds.keys import Part
from skiff.engine.builds.layering import Layering
from skiff.engine.images.names import LayerRow
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict, NotFound
from skiff.oci.digest import ChainID, Digest

PRUNE_FILTERS = (
    *("until", "id", "parent", "type", "description", "inuse", "shared", "private", "unused-for"),
    *("label", "label!"),  # of `system prune`: no entry has labels
)
KIND = "regular"
_SOON_NS = 60_000_000_000  # a use is noted once a minute


class Entry(Struct, frozen=True, kw_only=True):
    """layer: None when the step changed nothing. parent: what it stands on. Instants in ns since the epoch.

    place: which step of which build it last was: `app:latest 3/5`. text: the instruction.
    """

    layer: LayerRow | None
    parent: ChainID | None
    made_ns: int
    used_ns: int
    uses: int = 1
    text: str = ""
    place: str = ""
    above: str = ""  # the key of the step before


class StepRow(Struct, frozen=True):
    """When a step's image was first made: RFC 3339."""

    created: str
    used_ns: int


class Parts(Struct, frozen=True):
    parts: tuple[Part, ...]


class Cache:
    """in_images: the chains that some image stands on."""

    def __init__(
        self,
        state: StateStore,
        layering: Layering,
        leases: Leases,
        in_images: Callable[[], set[ChainID]],
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._entry_table = state.table("build_cache", Entry)
        self._part_table = state.table("build_parts", Parts)
        self._step_table = state.table("build_step", StepRow)
        self._entries = dict(self._entry_table.all())
        self._layering = layering
        self._leases = leases
        self._in_images = in_images
        self._now = now
        self._held: dict[str, ExitStack] = {}
        self._forgotten: set[ChainID] = set()  # layers that entries let go of since the last prune
        for key, entry in list(self._entries.items()):
            if entry.layer is not None and not layering.is_committed(entry.layer.chain):
                self._forget(key)
            else:
                self._hold(key, entry)

    def get(self, key: Digest, parent: ChainID | None) -> Entry | None:
        """The result of the step on that parent, if it is known and still there."""
        entry = self._entries.get(key)
        if entry is None or entry.parent != parent:
            return None
        if entry.layer is not None and not self._layering.is_committed(entry.layer.chain):
            self._forget(key)
            return None
        return entry

    def used(self, key: Digest, *, place: str) -> None:
        """The entry served a build."""
        entry = self._entries[key]
        if entry.place == place and self._now() - entry.used_ns < _SOON_NS:
            return
        self._put(key, replace(entry, used_ns=self._now(), uses=entry.uses + 1, place=place))

    def put(
        self,
        key: Digest,
        layer: LayerRow | None,
        parent: ChainID | None,
        parts: Sequence[Part],
        *,
        text: str,
        place: str,
        above: str,
    ) -> None:
        now = self._now()
        self._release(key)
        self._part_table.put(key, Parts(tuple(parts)))
        entry = Entry(
            layer=layer, parent=parent, made_ns=now, used_ns=now, text=text, place=place, above=above
        )
        self._hold(key, entry)
        self._put(key, entry)

    def earlier(self, *, text: str, place: str, besides: Digest) -> Sequence[Part] | None:
        """What the same step depended on last time: by its place, else by its words. None: never seen."""
        known = [(key, entry) for key, entry in self._entries.items() if key != besides]
        for wanted in ({"place": place}, {"text": text}):
            ((field, value),) = wanted.items()
            same = [(entry.used_ns, key) for key, entry in known if getattr(entry, field) == value]
            if same:
                try:
                    return self._part_table.get(max(same)[1]).parts
                except NotFound:
                    continue
        return None

    def parts(self, key: Digest) -> Sequence[Part] | None:
        try:
            return self._part_table.get(key).parts
        except NotFound:
            return None

    # -- images of steps

    def step(self, key: str) -> str | None:
        """When the image after this step was first made, None if it never was."""
        try:
            return self._step_table.get(key).created
        except NotFound:
            return None

    def put_step(self, key: str, created: str) -> None:
        self._step_table.put(key, StepRow(created, self._now()))

    # -- what is kept

    def usage(self) -> list[dict[str, Any]]:
        """Engine API, BuildCache: newest first."""
        images = self._in_images()
        ordered = sorted(self._entries.items(), key=lambda item: -item[1].used_ns)
        return [self._shown(key, entry, images) for key, entry in ordered]

    def size(self) -> int:
        """Bytes of what only the cache holds."""
        images = self._in_images()
        return sum(_size(entry) for entry in list(self._entries.values()) if not _is_shared(entry, images))

    def limits(self, filters: Filters) -> list[int]:
        """The instants after which nothing may have been used, by the filters. InvalidParameter."""
        before = [self._now() - _span(text) for text in filters.values("unused-for")]
        return before + [parse_time(text, self._now()) for text in filters.values("until")]

    def prune(
        self,
        filters: Filters | None = None,
        *,
        everything: bool = False,
        keep_bytes: int = 0,
        dry_run: bool = False,
    ) -> tuple[list[str], int]:
        """Forget entries, the longest unused first; the ids and the bytes that came free.

        Without everything only those that no image shares. keep_bytes: stop once the rest takes no more.
        dry_run: only tell. Blocking.
        """
        images = self._in_images()
        wanted = filters or Filters()
        candidates = [
            (entry.used_ns, key)
            for key, entry in self._entries.items()
            if self._matches(key, entry, wanted, images) and (everything or not _is_shared(entry, images))
        ]
        kept = sum(_size(entry) for entry in self._entries.values() if not _is_shared(entry, images))
        gone: list[str] = []
        freed = 0
        for _, key in sorted(candidates):
            if keep_bytes and kept <= keep_bytes:
                break
            entry = self._entries[key]
            if not dry_run:
                self._forget(key)
            gone.append(_short(key))
            if not _is_shared(entry, images):
                kept -= _size(entry)
                freed += _size(entry)
        if dry_run:
            return gone, freed
        if not self._entries:
            for key, _ in list(self._step_table.all()):
                self._step_table.delete(key)
        self._remove_layers(images)
        return gone, freed

    def _remove_layers(self, images: set[ChainID]) -> None:
        """Committed layers that neither an image nor an entry leads to."""
        snapshots = self._layering.snapshots
        held = self._leases.held()
        parents = {
            ChainID(info.id): info.parent for info in list(snapshots.walk()) if info.kind == "committed"
        }
        mine = {chain for chain in self._forgotten if chain in parents}
        while mine:
            done = set()
            for chain in mine:
                if chain in images or chain in held:
                    done.add(chain)
                    continue
                try:
                    snapshots.remove(chain)
                except Conflict:  # something stands on it: perhaps another one of ours
                    continue
                except NotFound:
                    pass
                done.add(chain)
            if not done:
                break
            mine -= done
        self._forgotten.clear()
        snapshots.sweep()

    def _matches(self, key: str, entry: Entry, filters: Filters, images: set[ChainID]) -> bool:
        if any(entry.used_ns > limit for limit in self.limits(filters)):
            return False
        shared = _is_shared(entry, images)
        return (
            filters.starts("id", _short(key))
            and filters.starts("parent", _short(entry.above))
            and filters.exact("type", KIND)
            and filters.matches("description", entry.text)
            and filters.labels(None)
            and "inuse" not in filters
            and not ("shared" in filters and not shared)
            and not ("private" in filters and shared)
        )

    def _shown(self, key: str, entry: Entry, images: set[ChainID]) -> dict[str, Any]:
        return {
            "ID": _short(key),
            "Parents": [_short(entry.above)] if entry.above else None,
            "Type": KIND,
            "Description": entry.text,
            "InUse": False,
            "Shared": _is_shared(entry, images),
            "Size": _size(entry),
            "CreatedAt": rfc3339(entry.made_ns),
            "LastUsedAt": rfc3339(entry.used_ns),
            "UsageCount": entry.uses,
        }

    def _put(self, key: str, entry: Entry) -> None:
        self._entry_table.put(key, entry)
        self._entries[key] = entry

    def _hold(self, key: str, entry: Entry) -> None:
        if entry.layer is not None:
            held = ExitStack()
            held.enter_context(self._leases.hold(entry.layer.chain))
            self._held[key] = held

    def _release(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held.close()
        entry = self._entries.get(key)
        if entry is not None and entry.layer is not None:
            self._forgotten.add(entry.layer.chain)

    def _forget(self, key: str) -> None:
        self._release(key)
        self._entry_table.delete(key)
        self._part_table.delete(key)
        self._entries.pop(key, None)


def _is_shared(entry: Entry, images: set[ChainID]) -> bool:
    return entry.layer is not None and entry.layer.chain in images


def _size(entry: Entry) -> int:
    return entry.layer.size if entry.layer else 0


def _short(key: str) -> str:
    """An id as people see it: 25 characters, as Docker's are."""
    return key.removeprefix("sha256:")[:25]


def _span(text: str) -> int:
    return time.time_ns() - parse_time(text, time.time_ns())
