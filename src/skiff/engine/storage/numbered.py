"""Snapshots as rows and numbered directories: what the overlay and the copying snapshotter share.

    snapshots/<n>/fs        the files of snapshot n
    snapshots/<n>/work      overlay's own
    snapshots/<n>/notes     what its layer's tar can be written again by, when its blob is not kept
    snapshots/removed/<n>   on its way out

The rule: directories come before their row and go after it, so a crash leaves only directories that no row
knows.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.storage.snapshots import Kind, SnapshotInfo, SnapshotKey, Usage
from skiff.engine.storage.state import StateStore
from skiff.errors import AlreadyExists, Conflict, NotFound
from skiff.linux import trees
from skiff.oci.digest import ChainID


class Row(Struct, frozen=True):
    """As stored. lowers: directories below its own, topmost first; relative ones are in the snapshots'
    root.
    """

    number: int
    kind: Kind
    parent: ChainID | None
    created: datetime
    lowers: tuple[str, ...] = ()


class NumberedSnapshots:
    """The part of a Snapshotter that is rows and directories."""

    def __init__(self, root: str, state: StateStore, table: str) -> None:
        """root: absolute. table: the kind of the rows."""
        self.root = root
        self._state = state
        self._rows = state.table(table, Row)
        self._removed = f"{root}/removed"
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        os.makedirs(self._removed, mode=0o710, exist_ok=True)
        used = [row.number for _, row in self._rows.all()]
        used += [int(name) for name in (*os.listdir(root), *os.listdir(self._removed)) if name.isdigit()]
        self._next = max(used, default=0) + 1

    def remove(self, snapshot: SnapshotKey | ChainID) -> None:
        row = self._row(snapshot)
        if row.kind == "committed":
            for id, other in self._rows.all():
                if other.parent == snapshot:
                    raise Conflict(f"snapshot {snapshot} cannot be removed: {id} is built on it")
        self._rows.delete(snapshot)
        self._retire(row.number)

    def sweep(self) -> None:
        with self._sweeping:  # two would move directories under each other's feet
            for name in os.listdir(self._removed):
                trees.remove(f"{self._removed}/{name}")

    def usage(self, snapshot: SnapshotKey | ChainID) -> Usage:
        return tree_usage(self.directory(snapshot))

    def info(self, snapshot: SnapshotKey | ChainID) -> SnapshotInfo:
        return _info(snapshot, self._row(snapshot))

    def walk(self) -> Iterator[SnapshotInfo]:
        for id, row in self._rows.all():
            yield _info(id, row)

    def directory(self, snapshot: SnapshotKey | ChainID) -> str:
        return f"{self.root}/{self._row(snapshot).number}/fs"

    def notes(self, snapshot: SnapshotKey | ChainID) -> str:
        return f"{self.root}/{self._row(snapshot).number}/notes"

    def reconcile(self) -> None:
        known = set()
        for id, row in list(self._rows.all()):
            # lexists: the mask of an external snapshot may be a link into a tmpfs that a boot emptied
            if os.path.lexists(f"{self.root}/{row.number}/fs"):
                known.add(str(row.number))
            else:
                self._rows.delete(id)
        for name in os.listdir(self.root):
            if name.isdigit() and name not in known:
                self._retire(int(name))

    def _row(self, snapshot: str) -> Row:
        try:
            return self._rows.get(snapshot)
        except NotFound:
            raise NotFound(f"snapshot {snapshot}: not found") from None

    def _absent(self, snapshot: str) -> None:
        """AlreadyExists unless no such snapshot is there."""
        try:
            self._rows.get(snapshot)
        except NotFound:
            return
        raise AlreadyExists(f"snapshot {snapshot} exists already")

    def _parent(self, name: ChainID | None) -> Row | None:
        if name is None:
            return None
        row = self._row(name)
        if row.kind != "committed":
            raise Conflict(f"snapshot {name} is not committed: nothing can be built on it")
        return row

    def _active(self, key: SnapshotKey) -> Row:
        row = self._row(key)
        if row.kind != "active":
            raise Conflict(f"snapshot {key} is not active")
        return row

    def _allocate(self) -> int:
        """A number whose directory now exists."""
        with self._lock:
            number = self._next
            self._next += 1
        os.mkdir(f"{self.root}/{number}", 0o711)
        return number

    def _retire(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # a crash came between the row and the directory
            os.rename(f"{self.root}/{number}", f"{self._removed}/{number}")


def new_row(number: int, kind: Kind, parent: ChainID | None, lowers: tuple[str, ...] = ()) -> Row:
    return Row(number, kind, parent, datetime.now(UTC), lowers)


def committed(row: Row, parent: ChainID | None, lowers: tuple[str, ...]) -> Row:
    """The row of what was active."""
    return replace(row, kind="committed", parent=parent, lowers=lowers)


def tree_usage(directory: str) -> Usage:
    """Bytes and inodes of a tree as Docker counts them: lengths of files and links, none for directories.

    A file of several names counts once. What lies deeper than a path can be long is not counted.
    """
    os.lstat(directory)
    size, count = 0, 1
    linked: set[int] = set()
    pending = [directory]
    while pending:
        try:
            scan = os.scandir(pending.pop())
        except OSError as error:
            _pass_over(error)
            continue
        with scan as found:
            for child in found:
                try:
                    status = child.stat(follow_symlinks=False)
                except OSError as error:
                    _pass_over(error)
                    continue
                if child.is_dir(follow_symlinks=False):
                    pending.append(child.path)
                    count += 1
                    continue
                if status.st_nlink > 1:
                    if status.st_ino in linked:
                        continue
                    linked.add(status.st_ino)
                size += status.st_size
                count += 1
    return Usage(bytes=size, inodes=count)


def _pass_over(error: OSError) -> None:
    """A running container deletes while we look, and nests as deep as it likes."""
    if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
        raise error


def _info(id: str, row: Row) -> SnapshotInfo:
    return SnapshotInfo(id=id, kind=row.kind, parent=row.parent, created=row.created)
