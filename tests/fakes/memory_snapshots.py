"""A Snapshotter whose rows are in memory; each snapshot has a real, empty temporary directory."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec.structs import replace

from skiff.engine.storage.numbered import tree_usage
from skiff.engine.storage.snapshots import Kind, SnapshotInfo, SnapshotKey, Usage
from skiff.errors import AlreadyExists, Conflict, NotFound
from skiff.oci.digest import ChainID
from skiff.oci.runtime import Mount


class MemorySnapshots:
    driver = "memory"
    stacks_late = True

    def __init__(self) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="memory-snapshots-")
        self.rows: dict[str, SnapshotInfo] = {}
        self.directories: dict[str, str] = {}
        self.volatile: set[str] = set()

    def prepare(self, key: SnapshotKey, parent: ChainID | None, *, volatile: bool = False) -> list[Mount]:
        self._create(key, "active", parent)
        return self.mounts(key, volatile=volatile)

    def view(self, key: SnapshotKey, parent: ChainID | None) -> list[Mount]:
        self._create(key, "view", parent)
        return self.mounts(key)

    def mounts(self, key: SnapshotKey, *, volatile: bool = False) -> list[Mount]:
        row = self.info(key)
        if volatile:
            self.volatile.add(key)
        return [Mount("/", "bind", self.directories[key], ("rbind", "rw" if row.kind == "active" else "ro"))]

    def commit(self, name: ChainID, key: SnapshotKey, *, parent: ChainID | None = None) -> None:
        row = self.info(key)
        if row.kind != "active":
            raise Conflict(f"snapshot {key} is not active")
        if name in self.rows:
            raise AlreadyExists(f"snapshot {name} exists already")
        if parent is not None:
            self.info(parent)
        self.rows[name] = replace(row, id=name, kind="committed", parent=parent or row.parent)
        self.directories[name] = self.directories.pop(key)
        del self.rows[key]

    def remove(self, snapshot: SnapshotKey | ChainID) -> None:
        self.info(snapshot)
        if any(row.parent == snapshot for row in self.rows.values()):
            raise Conflict(f"snapshot {snapshot} cannot be removed: others are built on it")
        del self.rows[snapshot]
        shutil.rmtree(self.directories.pop(snapshot))

    def sweep(self) -> None:
        """Removal was complete."""

    def usage(self, snapshot: SnapshotKey | ChainID) -> Usage:
        return tree_usage(self.directory(snapshot))

    def info(self, snapshot: SnapshotKey | ChainID) -> SnapshotInfo:
        try:
            return self.rows[snapshot]
        except KeyError:
            raise NotFound(f"snapshot {snapshot}: not found") from None

    def walk(self) -> Iterator[SnapshotInfo]:
        yield from sorted(self.rows.values(), key=lambda row: row.id)

    def directory(self, snapshot: SnapshotKey | ChainID) -> str:
        self.info(snapshot)
        return self.directories[snapshot]

    def notes(self, snapshot: SnapshotKey | ChainID) -> str:
        return f"{self.directory(snapshot)}.notes"

    def lowers(self, snapshot: SnapshotKey | ChainID) -> list[str]:
        found: list[str] = []
        parent = self.info(snapshot).parent
        while parent is not None:
            found.append(self.directories[parent])
            parent = self.info(parent).parent
        return found

    @contextmanager
    def change(self, snapshot: SnapshotKey | ChainID) -> Iterator[tuple[str, Sequence[str]]]:
        yield self.directory(snapshot), self.lowers(snapshot)

    def reconcile(self) -> None:
        """Nothing outlives a crash."""

    def _create(self, key: SnapshotKey, kind: Kind, parent: ChainID | None) -> None:
        if key in self.rows:
            raise AlreadyExists(f"snapshot {key} exists already")
        if parent is not None and self.info(parent).kind != "committed":
            raise Conflict(f"snapshot {parent} is not committed")
        self.rows[key] = SnapshotInfo(key, kind, parent, datetime.now(UTC))
        self.directories[key] = f"{self._root.name}/{len(os.listdir(self._root.name))}-{key[:20]}"
        os.mkdir(self.directories[key])
