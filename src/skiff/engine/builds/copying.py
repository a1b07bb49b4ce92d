"""COPY, ADD and WORKDIR: files into the changes of a snapshot. Blocking.

Written straight into the snapshot's own directory, which nobody else sees: a file that no one will change any
more is linked, not copied. Each name is opened below a descriptor and never through a symbolic link, so
nothing is written outside, whatever the sources hold.
"""

import errno
import os
import stat
from collections.abc import Sequence

from msgspec import Struct

from skiff.engine.builds.selection import Node, Selected
from skiff.engine.builds.tree import Tree
from skiff.engine.storage.beneath import copy_attributes
from skiff.engine.storage.copying import clone
from skiff.errors import InvalidParameter
from skiff.linux import safepath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINK = (errno.EXDEV, errno.EMLINK, errno.EPERM)
_DEVICE = stat.S_IFCHR | stat.S_IFBLK


class Mode(Struct, frozen=True):
    """--chmod, read. octal: all bits; clauses: (who, operator, permissions) of a symbolic one."""

    octal: int | None = None
    clauses: tuple[tuple[str, str, str], ...] = ()

    def of(self, mode: int, *, is_directory: bool) -> int:
        """The permission bits that a file of this mode gets."""
        if self.octal is not None:
            return self.octal
        bits = stat.S_IMODE(mode)
        for who, operator, permissions in self.clauses:
            bits = _clause(bits, who, operator, permissions, is_directory=is_directory)
        return bits


def chmod(text: str) -> Mode | None:
    """`0644`, `u=rwX,go=rX`. InvalidParameter.

    mode := octal digits | clause {"," clause}
    clause := {"u"|"g"|"o"|"a"} ("+"|"-"|"=") {"r"|"w"|"x"|"X"|"s"|"t"}
    """
    if not text:
        return None
    if text.isdigit():
        try:
            value = int(text, 8)
        except ValueError:
            value = -1
        if not 0 <= value <= 0o7777:
            raise InvalidParameter(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            )
        return Mode(octal=value)
    clauses = []
    for clause in text.split(","):
        at = next((i for i, c in enumerate(clause) if c in "+-="), -1)
        who, permissions = clause[:at], clause[at + 1 :]
        if at < 0 or set(who) - set("ugoa") or set(permissions) - set("rwxXst"):
            raise InvalidParameter(f"invalid chmod parameter: '{text}'")
        clauses.append((who or "a", clause[at], permissions))
    return Mode(clauses=tuple(clauses))


def _clause(bits: int, who: str, operator: str, permissions: str, *, is_directory: bool) -> int:
    wanted = 0
    whole = 0
    executable = is_directory or bits & 0o111
    for one, shift in (("u", 6), ("g", 3), ("o", 0)):
        if one in who or "a" in who:
            whole |= 0o7 << shift
            value = 4 * ("r" in permissions) + 2 * ("w" in permissions)
            value |= 1 if "x" in permissions or ("X" in permissions and executable) else 0
            wanted |= value << shift
            if "s" in permissions and one in "ug":
                wanted |= 0o4000 if one == "u" else 0o2000
    if "t" in permissions:
        wanted |= 0o1000
    if operator == "+":
        return bits | wanted
    if operator == "-":
        return bits & ~wanted
    return (bits & ~whole) | wanted


class Made(Struct, frozen=True):
    """What directories get that are made on the way to a destination."""

    owner: tuple[int, int] = (0, 0)
    mode: int = 0o755


def made_directories(owner: tuple[int, int] | None, mode: Mode | None) -> Made:
    """As Docker: what --chown and --chmod say is true for them, too."""
    return Made(owner or (0, 0), mode.of(0o755, is_directory=True) if mode else 0o755)


class NotADirectory(InvalidParameter):
    """A directory is to be where something else is."""


class Target:
    """The snapshot that is written to. upper: its own directory; below: what it stands on, topmost first.

    base: below as one tree. epoch_ns: the time of what is made here.
    """

    def __init__(self, upper: str, below: Sequence[str], base: Tree, epoch_ns: int) -> None:
        self._upper = upper
        self._below = below
        self._base = base
        self.epoch_ns = epoch_ns

    def place(self, path: str) -> str:
        """The path with the symbolic links of the base resolved."""
        return self._base.canonical(path)

    def is_directory(self, path: str) -> bool:
        return self._base.is_directory(path) or self._is_made(path)

    def _is_made(self, path: str) -> bool:
        """Whether this step has made a directory there; no link that it has brought is followed."""
        upper = os.open(self._upper, _DIRECTORY)
        try:
            os.close(safepath.open_below(upper, path.strip("/") or ".", _DIRECTORY))
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(upper)

    def directory(self, path: str, made: Made | None = None) -> int:
        """A descriptor of the directory, made with its parents where missing. The caller closes it."""
        fd = os.open(self._upper, _DIRECTORY)
        done = ""
        for part in path.split("/"):
            if not part:
                continue
            done = f"{done}/{part}"
            try:
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    self._make(fd, part, done, made or Made())
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    raise _not_a_directory(done) from error
            finally:
                os.close(fd)
            fd = below
        return fd

    def _make(self, fd: int, name: str, path: str, made: Made) -> None:
        known = self._base.status(path)
        if known is not None and not stat.S_ISDIR(known.st_mode):
            raise _not_a_directory(path)
        os.mkdir(name, 0o755, dir_fd=fd)
        if known is not None:
            copy_attributes(self._below, path[1:], self._upper)
            return
        if made.owner != (0, 0):
            os.chown(name, *made.owner, dir_fd=fd)
        os.chmod(name, made.mode, dir_fd=fd)
        os.utime(name, ns=(self.epoch_ns, self.epoch_ns), dir_fd=fd)

    def ensure(self, path: str, owner: tuple[int, int]) -> None:
        """WORKDIR: nothing is changed when it is there."""
        place = self.place(path)
        if not self._base.is_directory(place):
            os.close(self.directory(place, Made(owner)))

    def inline(self, path: str, data: bytes, mode: int, made: Made) -> None:
        """A file that the Dockerfile holds."""
        parent, _, name = self.place(path).rpartition("/")
        fd = self.directory(parent, made)
        try:
            _clear(fd, name)
            with open(os.open(name, _NEW, 0o600, dir_fd=fd), "wb") as file:
                file.write(data)
                os.fchown(file.fileno(), *made.owner)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.utime(file.fileno(), ns=(self.epoch_ns, self.epoch_ns))
        finally:
            os.close(fd)


class Copier:
    """Copies selections of one source tree. owner: of everything copied; None keeps each file's own."""

    def __init__(
        self,
        target: Target,
        source: Tree,
        *,
        owner: tuple[int, int] | None,
        mode: Mode | None,
        may_link: bool,
    ) -> None:
        """may_link: the source's files are never changed again, so their inodes may be shared."""
        self._target = target
        self._source = source
        self._owner = owner
        self._mode = mode
        self._may_link = may_link
        self._made = made_directories(owner, mode)
        self._clones = True  # until it turns out that the file system cannot
        self._links: dict[tuple[int, int], tuple[str, str]] = {}  # inode → its first name, and where it went

    def copy(self, one: Selected, destination: str, *, into: bool, parents: bool) -> None:
        """into: destination is a directory. A directory's content is copied, not itself, unless parents."""
        top = one.top
        place = self._target.place(destination)
        if parents:
            place = f"{place.rstrip('/')}/{one.place}" if one.place else place
        if top.is_directory:
            if not self._target.is_directory(place) and self._target._base.status(place) is not None:
                raise _not_a_directory(place)
            self._content(one, place)
            return
        if not parents and (into or self._target.is_directory(place)):
            place = self._target.place(f"{place.rstrip('/')}/{one.place.rpartition('/')[2]}")
        if self._target.is_directory(place):
            raise InvalidParameter(f"cannot copy to directory: {place}")
        parent, _, name = place.rpartition("/")
        fd = self._target.directory(parent, self._made)
        try:
            self._file(top, fd, name, place)
        finally:
            os.close(fd)

    def _content(self, one: Selected, place: str) -> None:
        """Of the directory itself only the time is copied, as Docker does it."""
        fd = self._target.directory(place, self._made)
        try:
            self._children(one.nodes[1:], place.rstrip("/"))
            if place != "/":  # an image's root is no entry of a layer
                os.utime(fd, ns=_times(one.top))
        finally:
            os.close(fd)

    def _children(self, nodes: Sequence[Node], place: str) -> None:
        """Nodes come parents first; directories get their times once their content is there."""
        later: list[tuple[Node, str]] = []
        fd, at = -1, ""
        try:
            for node in nodes:
                parent, _, name = node.name.rpartition("/")
                if fd < 0 or parent != at:
                    if fd >= 0:
                        os.close(fd)
                    fd, at = self._target.directory(f"{place}/{parent}" if parent else place), parent
                if node.is_directory:
                    self._directory(node, fd, name)
                    later.append((node, f"{place}/{node.name}"))
                else:
                    self._file(node, fd, name, f"{place}/{node.name}")
        finally:
            if fd >= 0:
                os.close(fd)
        for node, path in reversed(later):
            below = self._target.directory(path)
            try:
                os.utime(below, ns=_times(node))
            finally:
                os.close(below)

    def _directory(self, node: Node, fd: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=fd)
                os.mkdir(name, 0o700, dir_fd=fd)
        below = os.open(name, _DIRECTORY, dir_fd=fd)
        try:
            os.fchown(below, *self._owner_of(node))
            os.fchmod(below, self._mode_of(node))
            self._attributes(node, below)
        finally:
            os.close(below)

    def _file(self, node: Node, fd: int, name: str, path: str) -> None:
        """path: of the copy, in the target."""
        status = node.status
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if kind == stat.S_IFREG and self._linked(node, fd, name):
            return
        _clear(fd, name)
        if status.st_nlink > 1:
            first, copy = self._links.setdefault((status.st_dev, status.st_ino), (node.path, path))
            if first != node.path:
                self._second_name(copy, fd, name)
                return
        if kind == stat.S_IFREG:
            self._regular(node, fd, name)
            return
        if kind == stat.S_IFLNK:
            os.symlink(node.target, name, dir_fd=fd)
        else:
            os.mknod(name, kind | 0o600, status.st_rdev if kind & _DEVICE else 0, dir_fd=fd)
        os.chown(name, *self._owner_of(node), dir_fd=fd, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, self._mode_of(node), dir_fd=fd)  # mknod(2) leaves out what the umask says
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)

    def _second_name(self, first: str, fd: int, name: str) -> None:
        """A hard link to what was copied already, as in the source."""
        parent, _, last = first.rpartition("/")
        above = self._target.directory(parent)
        try:
            os.link(last, name, src_dir_fd=above, dst_dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(above)

    def _linked(self, node: Node, fd: int, name: str) -> bool:
        """Whether the source's own inode could stand for the copy.

        It is in one layer at most: two names of an image with the same inode would be taken for a hard link.
        """
        status = node.status
        if not self._may_link or status.st_nlink != 1 or status.st_mtime_ns > self._target.epoch_ns:
            return False
        if (status.st_uid, status.st_gid) != self._owner_of(node):
            return False
        if self._mode_of(node) != stat.S_IMODE(status.st_mode):
            return False
        parent, _, last = node.path.rpartition("/")
        above = self._source.directory(parent)
        try:
            try:
                os.link(last, name, src_dir_fd=above, dst_dir_fd=fd, follow_symlinks=False)
            except FileExistsError:
                _clear(fd, name)
                os.link(last, name, src_dir_fd=above, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return False
        if os.stat(name, dir_fd=fd, follow_symlinks=False).st_nlink != 2:  # another step was as fast
            os.unlink(name, dir_fd=fd)
            return False
        return True

    def _regular(self, node: Node, fd: int, name: str) -> None:
        parent, _, last = node.path.rpartition("/")
        reader = os.open(last, _READ, dir_fd=self._source.directory(parent))
        try:
            writer = os.open(name, _NEW, 0o600, dir_fd=fd)
            try:
                self._clones = self._clones and clone(reader, writer)
                if not self._clones:
                    while os.sendfile(writer, reader, None, 1 << 30):
                        pass
                os.fchown(writer, *self._owner_of(node))
                os.fchmod(writer, self._mode_of(node))
                self._attributes(node, writer, reader)
                os.utime(writer, ns=(node.status.st_atime_ns, node.status.st_mtime_ns))
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _attributes(self, node: Node, to: int, reader: int | None = None) -> None:
        """Extended attributes, such as file capabilities, belong to the content."""
        source = self._source.open(node.path, os.O_RDONLY | os.O_NOFOLLOW) if reader is None else reader
        try:
            for attribute in os.listxattr(source):
                if not attribute.startswith(
                    ("trusted.overlay.", "user.overlay.", "security.selinux", "system.")
                ):
                    os.setxattr(to, attribute, os.getxattr(source, attribute))
        finally:
            if reader is None:
                os.close(source)

    def _owner_of(self, node: Node) -> tuple[int, int]:
        return (node.status.st_uid, node.status.st_gid) if self._owner is None else self._owner

    def _mode_of(self, node: Node) -> int:
        if self._mode is None:
            return stat.S_IMODE(node.status.st_mode)
        return self._mode.of(node.status.st_mode, is_directory=node.is_directory)


def _times(node: Node) -> tuple[int, int]:
    return node.status.st_atime_ns, node.status.st_mtime_ns


def _clear(fd: int, name: str) -> None:
    """Take away a file that an earlier source of the same step put there."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise InvalidParameter(f"cannot copy to directory: {name}") from None


def _not_a_directory(path: str) -> NotADirectory:
    return NotADirectory(f"cannot copy to non-directory: {path}")
