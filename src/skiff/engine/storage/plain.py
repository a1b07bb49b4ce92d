"""The copying snapshotter, for file systems that overlayfs cannot stand on; and the choice between the two.

Every active snapshot is a whole copy of its parent. Slow and dependable; quick where the file system shares
data.
"""

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence

from skiff.engine.storage import diff, overlay
from skiff.engine.storage.copying import copy_tree
from skiff.engine.storage.numbered import NumberedSnapshots, Row, committed, new_row
from skiff.engine.storage.overlay import OverlaySnapshots, escape
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict, InvalidParameter, NotImplementedHere, SkiffError
from skiff.linux import libc, syscalls, trees
from skiff.oci.digest import ChainID
from skiff.oci.runtime import Mount

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_TABLE = "plain_snapshot"
_CHANGE = "change-"  # how the names of directories begin that show what a snapshot changes
DRIVERS = ("overlay2", "vfs")
log = logging.getLogger(__name__)


class PlainSnapshots(NumberedSnapshots):
    """A Snapshotter."""

    driver = "vfs"
    stacks_late = False

    def __init__(self, root: str, state: StateStore) -> None:
        super().__init__(root, state, _TABLE)
        for name in os.listdir(root):
            if name.startswith(_CHANGE):  # of an engine that was killed
                trees.remove(f"{root}/{name}")

    def prepare(self, key: SnapshotKey, parent: ChainID | None, *, volatile: bool = False) -> list[Mount]:
        # volatile needs nothing here: a bind mount never flushes by itself
        self._absent(key)
        below = self._parent(parent)
        number = self._allocate()
        fs = f"{self.root}/{number}/fs"
        if below is None:
            os.mkdir(fs, 0o755)
            os.chmod(fs, 0o755)
        else:
            copy_tree(f"{self.root}/{below.number}/fs", fs)
        self._rows.put(key, new_row(number, "active", parent))
        return self.mounts(key)

    def view(self, key: SnapshotKey, parent: ChainID | None) -> list[Mount]:
        self._absent(key)
        below = self._parent(parent)
        number = self._allocate()
        os.mkdir(f"{self.root}/{number}/fs", 0o755)
        shown = (f"{self.root}/{below.number}/fs",) if below is not None else ()
        self._rows.put(key, new_row(number, "view", parent, shown))
        return self.mounts(key)

    def mounts(self, key: SnapshotKey, *, volatile: bool = False) -> list[Mount]:
        row = self._row(key)
        if row.kind == "committed":
            raise Conflict(f"snapshot {key} is committed: prepare or view it")
        access = "rw" if row.kind == "active" else "ro"
        source = row.lowers[0] if row.lowers else f"{self.root}/{row.number}/fs"
        return [Mount("/", "bind", source, ("rbind", access))]

    def commit(self, name: ChainID, key: SnapshotKey, *, parent: ChainID | None = None) -> None:
        if parent is not None:
            raise InvalidParameter("a copy cannot get its parent afterwards")
        row = self._active(key)
        self._absent(name)
        with self._state.transaction():
            self._rows.put(name, committed(row, row.parent, ()))
            self._rows.delete(key)

    def lowers(self, snapshot: SnapshotKey | ChainID) -> list[str]:
        return list(self._row(snapshot).lowers)

    @contextlib.contextmanager
    def change(self, snapshot: SnapshotKey | ChainID) -> Iterator[tuple[str, Sequence[str]]]:
        own, below = self.directory(snapshot), self._parent(self._row(snapshot).parent)
        if below is None:
            yield own, []
            return
        before = f"{self.root}/{below.number}/fs"
        place = tempfile.mkdtemp(prefix=_CHANGE, dir=self.root)
        try:
            diff.tree_upper(own, before, f"{place}/fs")
            yield f"{place}/fs", [before]
        finally:
            trees.remove(place)

    def register_external(
        self,
        name: ChainID,
        directories: Sequence[str],
        hidden: Sequence[str] = (),
        *,
        masks: str | None = None,
    ) -> None:
        """NotImplementedHere: a copy of this machine would be one that nobody wants to wait for."""
        raise NotImplementedHere(
            "the image host needs overlayfs, and this engine copies its snapshots: modprobe overlay, and "
            "another data root"
        )


def choose(root: str, state: StateStore, driver: str = "auto") -> OverlaySnapshots | PlainSnapshots:
    """The snapshotter for root. driver: auto, overlay2 or vfs.

    A root that holds snapshots stays with the driver that made them. It may fork: call it while the process
    has one thread. SkiffError when overlay2 is asked for and does not work, and for another driver than that
    of the snapshots.
    """
    if driver not in ("auto", *DRIVERS):
        raise InvalidParameter(f"unknown storage driver {driver}: expected auto, overlay2 or vfs")
    os.makedirs(root, mode=0o710, exist_ok=True)
    before = _driver_before(state)
    if before and driver not in ("auto", before):
        raise SkiffError(f"{root} holds snapshots of the storage driver {before}: {driver} cannot read them")
    wanted = before or driver
    if wanted == "vfs":
        return PlainSnapshots(root, state)
    if overlay_is_here() if before else overlay_works(root):
        return OverlaySnapshots(root, state)
    if before:
        raise SkiffError(
            f"{root} holds snapshots of the storage driver overlay2, and this kernel has no overlayfs: "
            "modprobe overlay, or another --data-root"
        )
    if wanted == "overlay2":
        raise SkiffError(f"overlayfs does not work on the file system of {root}")
    log.warning("overlayfs does not work on %s: every container copies its image; see skiff check", root)
    return PlainSnapshots(root, state)


def _driver_before(state: StateStore) -> str:
    """Whose snapshots the state knows; "" for none."""
    for driver, table in (("overlay2", overlay.TABLE), ("vfs", _TABLE)):
        if next(iter(state.table(table, Row).all()), None) is not None:
            return driver
    return ""


def overlay_is_here() -> bool:
    """Whether the kernel has overlayfs at all, its module loaded on demand."""
    fd = libc.syscall(syscalls.number("fsopen"), b"overlay", 0)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def overlay_works(root: str) -> bool:
    """Whether a child process could mount an overlay in root and make what whiteouts need."""
    probe = f"{root}/probe-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(probe)
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.makedirs(f"{probe}/{name}/x")
        os.rmdir(f"{probe}/work/x")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _probe(probe)
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _probe(probe: str) -> None:
    escaped = escape(probe)
    options = f"lowerdir={escaped}/lower,upperdir={escaped}/upper,workdir={escaped}/work"
    libc.check(libc.libc.unshare(_CLONE_NEWNS), "unshare")
    libc.check(libc.libc.mount(None, b"/", None, _MS_REC_PRIVATE, None), "mount")
    merged = os.fsencode(f"{probe}/merged")
    libc.check(libc.libc.mount(b"overlay", merged, b"overlay", 0, os.fsencode(options)), "mount", probe)
    os.mknod(f"{probe}/upper/whiteout", stat.S_IFCHR, 0)
    os.setxattr(f"{probe}/upper/x", "trusted.overlay.opaque", b"y")
