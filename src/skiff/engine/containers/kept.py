"""Removed containers that can come back: row in the bin, snapshot and files where they were.

Ids are never used twice, so nothing has to move. The rule: a container of --rm is never kept; that it goes
was asked for.
"""

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.networking import Sandboxes
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.spec import merge
from skiff.engine.storage.numbered import tree_usage
from skiff.engine.storage.removed import Bin, Removed
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import NotFound
from skiff.paths import DataPaths

NOUN = "container"


class KeptContainers:
    """A Kept. discard: put a directory out of sight, to be deleted later.

    forgotten: to be set; called with the id of a container that can no longer come back.
    """

    noun = NOUN

    def __init__(
        self,
        *,
        bin: Bin,
        records: Records,
        snapshots: Snapshotter,
        sandboxes: Sandboxes,
        data: DataPaths,
        discard: Callable[[object], None],
        announce: Announcer,
    ) -> None:
        self.bin = bin
        self._records = records
        self._snapshots = snapshots
        self._sandboxes = sandboxes
        self._data = data
        self._discard = discard
        self._announce = announce
        self.forgotten: Callable[[str], None] = lambda id: None

    def keep(self, container: Container) -> bool:
        """False when it is to be deleted at once."""
        if not self.bin.keeping or container.host.auto_remove:
            return False
        try:
            self._snapshots.info(SnapshotKey(container.id))
        except NotFound:  # a crash cut its removal short: there is nothing to come back to
            return False
        volumes = [("volume", plan.name) for plan in container.mounts if plan.type == "volume"]
        needs = (("image", container.image), *volumes)
        self.bin.keep(NOUN, container.id, container.name, msgspec.json.encode(container), needs)
        return True

    def holds(self, id: str) -> bool:
        return any(entry.key == id for entry in self.bin.of(NOUN))

    async def restore(self, removed: Removed, name: str) -> str:
        container = msgspec.json.decode(removed.record, type=Container)
        bare = merge.check_name(name) if name else container.name
        with self._records.reserved(bare, container.id):
            container = self._records.put(replace(container, name=bare))
        self._sandboxes.join(container)
        self._announce(container, "create")
        return container.id

    async def expunge(self, removed: Removed) -> None:
        if removed.key in self._records:
            return
        try:
            self._snapshots.remove(SnapshotKey(removed.key))
        except NotFound:
            pass
        self._discard(self._data.container(removed.key))
        self.forgotten(removed.key)

    def size(self, removed: Removed) -> int:
        total = 0
        try:
            total += self._snapshots.usage(SnapshotKey(removed.key)).bytes
            total += tree_usage(str(self._data.container(removed.key))).bytes
        except (NotFound, FileNotFoundError):
            pass
        return total

    def settle(self) -> None:
        for entry in self.bin.of(NOUN):
            if entry.key in self._records:
                self.bin.forget(entry.id)
                continue
            try:
                self._snapshots.info(SnapshotKey(entry.key))
            except NotFound:
                self.bin.forget(entry.id)
                self._discard(self._data.container(entry.key))
                self.forgotten(entry.key)
