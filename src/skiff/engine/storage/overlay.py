r"""The overlayfs snapshotter: a snapshot is one directory of changes on top of its parents' directories.

It mounts nothing: it says what to mount. Options are written as for mount(8), with `\`, `:` and `,` in paths
escaped by `\`; together they may exceed the 4095 bytes of mount(2) when an image has very many layers, so the
runtime names each (unescaped) lower directory apart, or relative to where all are (skiff/linux/mounts.py).

https://docs.kernel.org/filesystems/overlayfs.html
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence

from skiff.engine.storage.numbered import NumberedSnapshots, Row, committed, new_row
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict
from skiff.oci.digest import ChainID, encoded
from skiff.oci.runtime import Mount

TABLE = "snapshot"
_PARAMETERS = "/sys/module/overlay/parameters"
# Each would leave in the upper directory what only this host's overlayfs can read; diffs must be plain files.
_OPAQUE = "trusted.overlay.opaque"
_UNWANTED = ("index", "metacopy", "redirect_dir")


class OverlaySnapshots(NumberedSnapshots):
    """A Snapshotter."""

    driver = "overlay2"
    stacks_late = True

    def __init__(self, root: str, state: StateStore, *, user_xattrs: bool = False) -> None:
        """user_xattrs: for an engine without privileges, whose overlay keeps its notes in user.overlay.*."""
        super().__init__(root, state, TABLE)
        self._fixed = tuple(f"{name}=off" for name in _UNWANTED if _is_on(name))
        if user_xattrs:
            self._fixed += ("userxattr",)

    def prepare(self, key: SnapshotKey, parent: ChainID | None, *, volatile: bool = False) -> list[Mount]:
        return self._mounts(self._create(key, "active", parent), volatile)

    def view(self, key: SnapshotKey, parent: ChainID | None) -> list[Mount]:
        return self._mounts(self._create(key, "view", parent), volatile=False)

    def mounts(self, key: SnapshotKey, *, volatile: bool = False) -> list[Mount]:
        row = self._row(key)
        if row.kind == "committed":
            raise Conflict(f"snapshot {key} is committed: prepare or view it")
        if row.lowers:
            # the kernel refuses a work directory that was once used by a volatile mount
            shutil.rmtree(f"{self.root}/{row.number}/work/work/incompat", ignore_errors=True)
            # a commit that was not completed may have taken it
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{self.root}/{row.number}/work", 0o700)
        return self._mounts(row, volatile)

    def commit(self, name: ChainID, key: SnapshotKey, *, parent: ChainID | None = None) -> None:
        row = self._active(key)
        self._absent(name)
        lowers = row.lowers
        if parent is not None:
            if row.parent is not None:
                raise Conflict(f"snapshot {key} has a parent already")
            lowers = self._stacked(self._parent(parent))
        with self._state.transaction():
            self._rows.put(name, committed(row, parent or row.parent, lowers))
            self._rows.delete(key)
        if row.lowers:
            shutil.rmtree(f"{self.root}/{row.number}/work", ignore_errors=True)

    def lowers(self, snapshot: SnapshotKey | ChainID) -> list[str]:
        return [self._absolute(lower) for lower in self._row(snapshot).lowers]

    @contextlib.contextmanager
    def change(self, snapshot: SnapshotKey | ChainID) -> Iterator[tuple[str, Sequence[str]]]:
        yield self.directory(snapshot), self.lowers(snapshot)

    def register_external(
        self,
        name: ChainID,
        directories: Sequence[str],
        hidden: Sequence[str] = (),
        *,
        masks: str | None = None,
    ) -> None:
        """A committed snapshot whose files are directories of the host, topmost first, in place.

        hidden: paths inside it that are not to be seen: a directory becomes empty, anything else disappears.
        Overlayfs does not look into file systems mounted below a directory; they appear as empty directories.
        masks: a directory for what hides them, when the snapshots lie inside one of the directories:
        overlayfs refuses a layer within a layer. What was lost of it (a tmpfs) is made anew by registering
        again, AlreadyExists or not.
        """
        mask = f"{masks}/{encoded(name)}" if masks else None
        if mask and not os.path.isdir(mask):
            _build_mask(mask, directories, hidden)
        self._absent(name)
        number = self._allocate()
        fs = f"{self.root}/{number}/fs"
        if mask:
            os.symlink(mask, fs)
        else:
            _build_mask(fs, directories, hidden)
        self._rows.put(name, new_row(number, "committed", None, tuple(directories)))

    def _create(self, key: SnapshotKey, kind: "str", parent: ChainID | None) -> Row:
        self._absent(key)
        below = self._stacked(self._parent(parent))
        number = self._allocate()
        directory = f"{self.root}/{number}"
        # the upper directory's own mode and owner are those of the container's root
        _make_root(f"{directory}/fs", self._absolute(below[0]) if below else None)
        if below and kind == "active":
            os.mkdir(f"{directory}/work", 0o700)
        row = new_row(number, "active" if kind == "active" else "view", parent, below)
        self._rows.put(key, row)
        return row

    def _stacked(self, parent: Row | None) -> tuple[str, ...]:
        return () if parent is None else (f"{parent.number}/fs", *parent.lowers)

    def _absolute(self, lower: str) -> str:
        return lower if lower.startswith("/") else f"{self.root}/{lower}"

    def _mounts(self, row: Row, volatile: bool) -> list[Mount]:
        own = f"{self.root}/{row.number}"
        lowers = [self._absolute(lower) for lower in row.lowers]
        if row.kind == "view" and len(lowers) <= 1:
            return [Mount("/", "bind", lowers[0] if lowers else f"{own}/fs", ("rbind", "ro"))]
        if not lowers:
            return [Mount("/", "bind", f"{own}/fs", ("rbind", "rw"))]
        options: tuple[str, ...] = (f"lowerdir={':'.join(map(escape, lowers))}",)
        if row.kind == "active":
            options += (f"upperdir={escape(own)}/fs", f"workdir={escape(own)}/work")
            if volatile:
                options += ("volatile",)
        else:
            options += ("ro",)
        return [Mount("/", "overlay", "overlay", options + self._fixed)]


def escape(path: str) -> str:
    """A path as overlayfs's options want it."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _make_root(directory: str, like: str | None) -> None:
    """A new directory with mode and owner of another one; 0755 and ours without."""
    if like is None:
        os.mkdir(directory, 0o755)
        os.chmod(directory, 0o755)
        return
    model = os.stat(like)
    os.mkdir(directory, 0o700)
    if model.st_uid or model.st_gid:
        with contextlib.suppress(PermissionError):  # without privileges every file is ours anyway
            os.chown(directory, model.st_uid, model.st_gid)
    os.chmod(directory, stat.S_IMODE(model.st_mode))


def _build_mask(directory: str, lowers: Sequence[str], hidden: Sequence[str]) -> None:
    shutil.rmtree(f"{directory}.new", ignore_errors=True)
    _make_root(f"{directory}.new", lowers[0])
    for path in sorted(hidden, key=len):  # a directory before what is in it
        _hide(f"{directory}.new", path.strip("/"), lowers)
    os.rename(f"{directory}.new", directory)


def _hide(fs: str, path: str, lowers: Sequence[str]) -> None:
    """Mark one path of a mask directory. The paths are the engine's own, not a container's."""
    found = next((f"{lower}/{path}" for lower in lowers if os.path.lexists(f"{lower}/{path}")), None)
    if found is None:
        return
    lower = found[: -len(path) - 1]
    # a name through a symbolic link (/var/run) is hidden where it really is; the link itself stays
    parent = os.path.relpath(os.path.realpath(os.path.dirname(found)), os.path.realpath(lower or "/"))
    if parent == ".." or parent.startswith("../"):
        return
    path = os.path.normpath(f"{parent}/{os.path.basename(path)}")
    ancestors = path.split("/")[:-1]
    for depth in range(1, len(ancestors) + 1):
        ancestor = "/".join(ancestors[:depth])
        if not os.path.isdir(f"{fs}/{ancestor}"):
            _make_root(f"{fs}/{ancestor}", f"{lower}/{ancestor}")
        elif _is_hidden(f"{fs}/{ancestor}"):
            return
    if os.path.isdir(found) and not os.path.islink(found):
        if not os.path.isdir(f"{fs}/{path}"):
            _make_root(f"{fs}/{path}", found)
        os.setxattr(f"{fs}/{path}", _OPAQUE, b"y")
    elif not os.path.lexists(f"{fs}/{path}"):
        os.mknod(f"{fs}/{path}", stat.S_IFCHR, 0)


def _is_hidden(directory: str) -> bool:
    return _OPAQUE in os.listxattr(directory)


def _is_on(parameter: str) -> bool:
    try:
        with open(f"{_PARAMETERS}/{parameter}") as file:
            return file.read(1) in "Yy1"
    except FileNotFoundError:  # overlay is not loaded yet, or the kernel is older than the parameter
        return False
