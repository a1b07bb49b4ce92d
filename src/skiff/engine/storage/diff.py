"""What a snapshot changed: as a list, and as a layer tar. It writes nothing to disk.

Trees may belong to running containers: every step opens one name below a descriptor and follows no symbolic
link. The same tree gives the same bytes: entries are sorted by name, depth first. OCI image-spec 1.1,
layer.md.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import ExitStack
from typing import Literal

from msgspec import Struct

from skiff.engine.storage import tarwriter
from skiff.engine.storage.beneath import visible
from skiff.engine.storage.replica import Replica, Xattrs
from skiff.errors import SkiffError
from skiff.oci import layer

Kind = Literal["A", "C", "D"]

_PIECE = 1 << 18
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_UNREADABLE = (
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.redirect",
    "user.overlay.metacopy",
)


class Change(Struct, frozen=True):
    """kind: added, changed, deleted. path: absolute inside the snapshot."""

    kind: Kind
    path: str


class _Node(Struct, frozen=True):
    """One name in a tree while it is visited: fd is its parent's, name its last part, path the whole."""

    fd: int
    name: str
    path: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_whiteout(self) -> bool:
        return stat.S_ISCHR(self.status.st_mode) and self.status.st_rdev == 0

    @property
    def where(self) -> str:
        """A path for calls that take no descriptor; only its last part is not resolved yet."""
        return f"/proc/self/fd/{self.fd}/{self.name}"


def changes(upper: str, lowers: Sequence[str]) -> list[Change]:
    """What an overlay's upper directory changes on lowers (topmost first), sorted by path."""
    found: list[Change] = []
    with ExitStack() as stack:
        root, *beneath = (_opened(directory, stack) for directory in (upper, *lowers))
        _compare(root, "", beneath, found)
    return sorted(found, key=lambda change: change.path)


def replaced(upper: str, lowers: Sequence[str], path: str) -> bool:
    """Whether the directory path of upper hides something that the lowers have there and upper has not."""
    with ExitStack() as stack:
        root, *beneath = (_opened(directory, stack) for directory in (upper, *lowers))
        for name in path.strip("/").split("/"):
            beneath = _below(name, beneath, stack)
            root = os.open(name, _STEP, dir_fd=root)
            stack.callback(os.close, root)
        return _is_opaque_directory(root) and bool(_names(beneath) - set(os.listdir(root)))


def _compare(fd: int, prefix: str, beneath: Sequence[int], found: list[Change]) -> None:
    """Upper's directory and those that it lies upon, side by side: each name is one look per layer."""
    directories: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            path = f"{prefix}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif not entry.is_file(follow_symlinks=False) and _is_whiteout(fd, entry.name):
                found.append(Change("D", path))
                continue
            found.append(Change("C" if _has(beneath, entry.name) else "A", path))
    for name in directories:
        with ExitStack() as stack:
            try:
                own = _opened(name, stack, fd)
            except (FileNotFoundError, NotADirectoryError):  # a running container deleted or replaced it
                continue
            below = _below(name, beneath, stack)
            if below and _is_opaque_directory(own):
                gone = _names(below) - set(os.listdir(own))
                found += [Change("D", f"{prefix}/{name}/{one}") for one in gone]
            _compare(own, f"{prefix}/{name}", below, found)


def _opened(name: str, stack: ExitStack, parent: int | None = None) -> int:
    fd = os.open(name, _STEP if parent is not None else _STEP & ~os.O_NOFOLLOW, dir_fd=parent)
    stack.callback(os.close, fd)
    return fd


def _has(beneath: Sequence[int], name: str) -> bool:
    """Whether there is anything of that name when one looks at these directories from above."""
    for fd in beneath:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)
    return False


def _below(name: str, beneath: Sequence[int], stack: ExitStack) -> list[int]:
    """The directories of that name which are seen from above, topmost first."""
    found = []
    for fd in beneath:
        try:
            own = _opened(name, stack, fd)
        except FileNotFoundError:
            continue
        except OSError:  # something else: it hides what is below
            break
        found.append(own)
        if _is_opaque_directory(own):
            break
    return found


def _names(directories: Sequence[int]) -> set[str]:
    """What these directories, the topmost first, show together."""
    names = {name for fd in directories for name in os.listdir(fd)}
    return {name for name in names if _has(directories, name)}


def _is_whiteout(fd: int, name: str) -> bool:
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque_directory(fd: int) -> bool:
    names = os.listxattr(fd)
    return any(name in names and os.getxattr(fd, name) == b"y" for name in _OPAQUE)


def tree_changes(new: str, old: str) -> list[Change]:
    """What differs between two whole trees, sorted by path. Changed parents of a change are listed too."""
    before = {node.path: _identity(node) for node in _visit(old)}
    found = []
    for node in _visit(new):
        identity = before.pop(node.path, None)
        if identity is None:
            found.append(Change("A", node.path))
        elif identity != _identity(node):
            found.append(Change("C", node.path))
    gone = set(before)
    found += [Change("D", path) for path in before if path.rpartition("/")[0] not in gone]
    return sorted(found, key=lambda change: change.path)


def upper_layer(
    upper: str, lowers: Sequence[str], *, without: Set[str] = frozenset(), replica: Replica | None = None
) -> Iterator[bytes]:
    """The layer tar of an overlay's upper directory on lowers (topmost first), in chunks.

    without: paths inside it that get no entry; what lies below them does. replica: becomes the same tree.
    """
    links: dict[int, bytes] = {}
    for node in _visit(upper):
        if node.path in without:
            continue
        name = os.fsencode(node.path[1:])
        if node.is_whiteout:
            yield tarwriter.header(b"0", layer.whiteout(name), mode=0)
            if replica is not None:
                replica.whiteout(node.path)
            continue
        yield from _entry(node, name, links, replica)
        # overlayfs marks every directory made in a merged one; where nothing is below, the mark says nothing
        if node.is_directory and (mark := _opaque_mark(node)) and visible(lowers, node.path[1:]):
            yield tarwriter.header(b"0", layer.opaque(name), mode=0)
            if replica is not None:
                replica.opaque(node.path, mark)
    yield tarwriter.END


def tree_layer(new: str, old: str | None = None) -> Iterator[bytes]:
    """The layer tar that makes the tree old into new; without old, all of new."""
    wanted = None
    deleted: list[str] = []
    if old is not None:
        differing = tree_changes(new, old)
        wanted = {change.path for change in differing if change.kind != "D"}
        deleted = [change.path for change in differing if change.kind == "D"]
    links: dict[int, bytes] = {}
    for path in deleted:  # before the rest: a whiteout spares what its own layer brings
        yield tarwriter.header(b"0", layer.whiteout(os.fsencode(path[1:])), mode=0)
    for node in _visit(new):
        if wanted is None or node.path in wanted:
            yield from _entry(node, os.fsencode(node.path[1:]), links)
    yield tarwriter.END


def tree_upper(new: str, old: str, target: str) -> None:
    """Make target, which must not exist, the upper directory that on the tree old comes to new.

    No byte is copied: files are hard links, so the result must lie on the same file system and is only to be
    read.
    """
    wanted = {change.path: change.kind for change in tree_changes(new, old)}
    parents = {path[:at] for path in wanted for at, letter in enumerate(path) if letter == "/"}
    os.mkdir(target, 0o700)
    _like(target, os.stat(new), new)
    directories = [(target, os.stat(new))]
    for node in _visit(new):
        place = target + node.path
        if node.is_directory and (node.path in wanted or node.path in parents):
            os.mkdir(place, 0o700)
            _like(place, node.status, node.where)
            directories.append((place, node.status))
        elif node.path in wanted:
            os.link(node.where, place, follow_symlinks=False)
    for path, kind in wanted.items():
        if kind == "D" and os.path.isdir(os.path.dirname(target + path)):
            os.mknod(target + path, stat.S_IFCHR, 0)
    for place, status in directories:  # what was put into them has changed their times
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


def _like(directory: str, status: os.stat_result, model: str) -> None:
    os.chown(directory, status.st_uid, status.st_gid)
    os.chmod(directory, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(model, follow_symlinks=False):
        os.setxattr(directory, name, os.getxattr(model, name, follow_symlinks=False))


def _visit(root: str) -> Iterator[_Node]:
    """Everything below root, parents first, siblings by name. No recursion: trees may be deep."""
    top = os.open(root, _STEP & ~os.O_NOFOLLOW)
    levels = [(top, "", sorted(os.listdir(top), reverse=True))]
    try:
        while levels:
            fd, prefix, names = levels[-1]
            if not names:
                os.close(levels.pop()[0])
                continue
            name = names.pop()
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:  # a running container deleted it
                continue
            node = _Node(fd, name, f"{prefix}/{name}", status)
            yield node
            if node.is_directory:
                try:
                    below = os.open(name, _STEP, dir_fd=fd)
                except (FileNotFoundError, NotADirectoryError):  # deleted, or replaced by something else
                    continue
                levels.append((below, node.path, sorted(os.listdir(below), reverse=True)))
    finally:
        for fd, _, _ in levels:
            os.close(fd)


def _entry(
    node: _Node, name: bytes, links: dict[int, bytes], replica: Replica | None = None
) -> Iterable[bytes]:
    status = node.status
    mode, kind = stat.S_IMODE(status.st_mode), stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFSOCK:  # nobody listens on an unpacked one
        return ()
    if status.st_nlink > 1 and kind != stat.S_IFDIR:
        first = links.setdefault(status.st_ino, name)
        if first is not name:
            if replica is not None:
                replica.link(node.path, first)
            return (_header(status, b"1", name, mode, link=first),)
    if kind == stat.S_IFREG:
        return _file(node, name, mode, replica)
    xattrs = _xattrs(node.where, node.path)
    if kind == stat.S_IFDIR:
        if replica is not None:
            replica.directory(node.path, status, xattrs)
        return (_header(status, b"5", name + b"/", mode, xattrs=xattrs),)
    if kind == stat.S_IFLNK:
        target = os.fsencode(os.readlink(node.name, dir_fd=node.fd))
        if replica is not None:
            replica.symlink(node.path, status, xattrs, target)
        return (_header(status, b"2", name, 0o777, link=target, xattrs=xattrs),)
    flag = {stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}[kind]
    device = (0, 0) if flag == b"6" else (os.major(status.st_rdev), os.minor(status.st_rdev))
    if replica is not None:
        replica.device(node.path, status, xattrs)
    return (_header(status, flag, name, mode, device=device, xattrs=xattrs),)


def _file(node: _Node, name: bytes, mode: int, replica: Replica | None) -> Iterable[bytes]:
    try:
        fd = os.open(node.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=node.fd)
    except OSError:
        if os.path.lexists(node.where):
            raise
        return ()  # a running container deleted it
    kept = -1
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return ()  # replaced between the look and the open
        size, xattrs = status.st_size, _xattrs(fd, node.path)
        head = _header(status, b"0", name, mode, size=size, xattrs=xattrs)
        if size > _PIECE:
            kept = fd if replica is None else replica.large(node.path, status, xattrs, fd)
            return _large(head, kept, size)
        data = os.read(fd, size) if size else b""
        if missing := size - len(data):  # it became shorter while we read; its header says what it had
            data += bytes(missing)
        if replica is not None:
            replica.small(node.path, status, xattrs, data)
        return (head, data, tarwriter.padding(size))
    finally:
        if kept != fd:
            os.close(fd)


def _large(head: bytes, fd: int, size: int) -> Iterator[bytes]:
    """A file in pieces; its descriptor is closed."""
    try:
        yield head
        left = size
        while left and (data := os.read(fd, min(left, _PIECE))):
            left -= len(data)
            yield data
        while left:  # it became shorter while we read; its header is out
            yield bytes(min(left, _PIECE))
            left -= min(left, _PIECE)
        yield tarwriter.padding(size)
    finally:
        os.close(fd)


def _header(
    status: os.stat_result,
    kind: bytes,
    name: bytes,
    mode: int,
    *,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Xattrs = (),
) -> bytes:
    return tarwriter.header(
        kind,
        name,
        mode=mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        size=size,
        link=link,
        device=device,
        xattrs=xattrs,
    )


def _xattrs(where: str | int, path: str) -> Xattrs:
    """Those that belong to the file. Labels of this host's policy and overlay's own notes stay here."""
    follow = isinstance(where, int)  # what is open is the file itself
    names = os.listxattr(where, follow_symlinks=follow)
    if not names:
        return ()
    if any(name in names for name in _UNREADABLE):
        raise SkiffError(f"{path} is stored in a form that only overlayfs reads: mount without redirects")
    return tuple(
        (os.fsencode(name), os.getxattr(where, name, follow_symlinks=follow))
        for name in sorted(names)
        if not name.startswith(("trusted.overlay.", "user.overlay.", "security.selinux", "system."))
    )


def _opaque_mark(node: _Node) -> str:
    """The attribute that makes it opaque; empty when none does."""
    names = os.listxattr(node.where, follow_symlinks=False)
    found = (
        name
        for name in _OPAQUE
        if name in names and os.getxattr(node.where, name, follow_symlinks=False) == b"y"
    )
    return next(found, "")


def _identity(node: _Node) -> tuple[object, ...]:
    status = node.status
    link = os.readlink(node.name, dir_fd=node.fd) if stat.S_ISLNK(status.st_mode) else ""
    content = () if node.is_directory else (status.st_size, status.st_mtime_ns)
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_rdev,
        link,
        content,
        _xattrs(node.where, node.path),
    )
