"""The copying snapshotter, for file systems that overlayfs cannot stand on; and the choice between the two.

Every active snapshot is a whole copy of its parent. Slow and dependable; quick where the file system shares
data.
"""

import contextlib
import os
import shutil
import stat

from skiff.engine.storage.copying import copy_tree
from skiff.engine.storage.numbered import NumberedSnapshots, committed, new_row
from skiff.engine.storage.overlay import OverlaySnapshots, escape
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict, InvalidParameter, SkiffError
from skiff.linux import libc
from skiff.oci.digest import ChainID
from skiff.oci.runtime import Mount

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = 0x4000 | 0x40000


class PlainSnapshots(NumberedSnapshots):
    """A Snapshotter."""

    driver = "vfs"
    stacks_late = False

    def __init__(self, root: str, state: StateStore) -> None:
        super().__init__(root, state, "plain_snapshot")

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


def choose(root: str, state: StateStore, driver: str = "auto") -> OverlaySnapshots | PlainSnapshots:
    """The snapshotter for root. driver: auto, overlay2 or vfs.

    It forks: call it while the process has one thread. SkiffError when overlay2 is asked for and does not
    work.
    """
    if driver not in ("auto", "overlay2", "vfs"):
        raise InvalidParameter(f"unknown storage driver {driver}: expected auto, overlay2 or vfs")
    if driver == "vfs":
        return PlainSnapshots(root, state)
    os.makedirs(root, mode=0o710, exist_ok=True)
    if overlay_works(root):
        return OverlaySnapshots(root, state)
    if driver == "overlay2":
        raise SkiffError(f"overlayfs does not work on the file system of {root}")
    return PlainSnapshots(root, state)


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
