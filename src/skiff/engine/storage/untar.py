"""Archive entries into the current directory, which must be the root of the process: no path can leave it.

Three ways to treat whiteouts. "overlay": the directory is one layer, whiteouts become what overlayfs reads (a
character device 0:0, an opaque attribute); whatever needs a look into lower layers raises NeedsParents.
"delete": the directory holds the parents' files, or a merged mount of them, and whiteouts delete. "none": the
archive is no layer: such names are files like any other.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

from skiff.engine.storage import tarstream
from skiff.engine.storage.hashing import Digest, Hasher
from skiff.engine.storage.tarstream import Entry, Source
from skiff.errors import HostileArchive
from skiff.oci import layer

Whiteouts = Literal["overlay", "delete", "none"]

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {
    tarstream.CHARACTER: stat.S_IFCHR,
    tarstream.BLOCK_DEVICE: stat.S_IFBLK,
    tarstream.FIFO: stat.S_IFIFO,
}
_SET_ID = 0o6000
_DIGITS = 64
LARGEST_LIST = 256 << 20  # bytes of names and digests, which the engine gets as one document
Maker = Callable[[bytes], None]
# What the walk of a bad path comes to; any other error is the machine's trouble, not the archive's.
_PATH_ERRORS = (FileNotFoundError, NotADirectoryError, FileExistsError, IsADirectoryError)
_NAME_ERRORS = (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EMLINK, errno.ERANGE, errno.E2BIG)


class NeedsParents(Exception):
    """The layer cannot be extracted on its own: a name leads through a directory of a lower layer."""


class Untar:
    """One extraction. Results: entries, written (bytes of files), linked (bytes of the targets of symbolic
    links), implied (directories no entry described).
    """

    def __init__(
        self,
        *,
        whiteouts: Whiteouts,
        overlay_xattrs: bytes = b"trusted.overlay.",
        keep_owners: bool = True,
        max_bytes: int | None = None,
        digests: bool = False,
    ) -> None:
        """keep_owners: False where only root's own files can be made (an unprivileged user namespace).

        digests: tell the SHA-256 of every file's content in `sums`, at the end of `run`.
        """
        self._deletes = whiteouts != "overlay"
        self._whiteouts = whiteouts != "none"
        self._hasher = Hasher() if digests else None
        self._digests: dict[bytes, Digest] = {}
        self._overlay = overlay_xattrs
        self._owners = keep_owners
        self._max_bytes = max_bytes
        self._directories: list[tuple[bytes, int]] = []
        self._set_ids: dict[bytes, int] = {}  # modes of directories
        self._unpacked: set[bytes] = (
            set()
        )  # "delete" only: what this layer brought, which its whiteouts spare
        self._implied: dict[bytes, None] = {b"": None}
        self.entries = 0
        self.written = 0
        self.linked = 0
        self.listed = 0  # bytes of `sums`

    @property
    def sums(self) -> dict[bytes, str]:
        """Path → hexadecimal digest."""
        return {path: digest.hexdigest() for path, digest in self._digests.items()}

    @property
    def implied(self) -> list[bytes]:
        """Directories made on the way to an entry, parents first; b"" is the root when no entry described
        it.
        """
        return sorted(self._implied)

    def run(self, source: Source) -> None:
        os.umask(0)
        with self._hasher or nullcontext():
            self._entries(source)
        # only now: what was made in such a directory would have inherited its group, and the bit
        for path, mode in self._set_ids.items():
            if _is_directory(path or b"."):
                os.chmod(path or b".", mode)
        for path, mtime in reversed(self._directories):
            try:
                os.utime(path or b".", ns=(mtime, mtime), follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # a later entry replaced it
        source.drain()

    def _entries(self, source: Source) -> None:
        for entry in tarstream.entries(source):
            self.entries += 1
            path = layer.clean(entry.name)
            try:
                self._extract(entry, path, source)
            except _PATH_ERRORS as error:
                if not self._deletes:
                    raise NeedsParents(layer.show(path)) from error
                raise HostileArchive(f"cannot extract {layer.show(path)}: {error.strerror}") from error
            except OSError as error:
                if error.errno in _NAME_ERRORS:
                    raise HostileArchive(f"cannot extract {layer.show(path)}: {error.strerror}") from error
                raise

    def _extract(self, entry: Entry, path: bytes, source: Source) -> None:
        if self._whiteouts and b".wh." in path and self._whiteout(entry, path, source):
            return
        if self._deletes and self._whiteouts:
            self._remember(path)
        kind = entry.type
        if kind == tarstream.REGULAR:
            self._file(entry, path, source)
        elif kind == tarstream.DIRECTORY:
            self._directory(entry, path)
        elif not path:
            raise HostileArchive("the archive replaces its own root")
        elif kind == tarstream.LINK:
            self._link(entry, path)
        else:
            self._make(self._special(entry), path)
            self._attributes(entry, path)

    def _file(self, entry: Entry, path: bytes, source: Source) -> None:
        if not path:
            raise HostileArchive("the archive replaces its own root")
        mode = entry.mode
        try:
            fd = os.open(path, _NEW, mode)
        except (FileNotFoundError, FileExistsError):
            opened: list[int] = []
            self._make(lambda path: opened.append(os.open(path, _NEW, mode)), path)
            fd = opened[0]
        try:
            if self._hasher is not None:
                self._list(path, digest := hashlib.sha256())
            if entry.size:
                self._account(entry.size)
                if self._hasher is None:
                    source.into(fd, entry.size)
                else:
                    for piece in source.pieces(entry.size):
                        self._hasher.add(digest, piece)
                        tarstream.write(fd, piece)
                source.took(path, entry.size)
            if self._is_foreign(entry):
                os.fchown(fd, entry.uid, entry.gid)
            if mode & _SET_ID:  # writing and chown clear these bits
                os.fchmod(fd, mode)
            if entry.xattrs:
                self._xattrs(entry, fd)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _directory(self, entry: Entry, path: bytes) -> None:
        where, mode = path or b".", entry.mode & ~_SET_ID
        try:
            os.mkdir(where, mode)
        except (FileNotFoundError, FileExistsError):
            if path and not _is_directory(path):
                self._make(lambda path: os.mkdir(path, mode), path, directory=True)
            else:
                os.chmod(where, mode)
        if self._is_foreign(entry):
            os.chown(where, entry.uid, entry.gid, follow_symlinks=False)
        if self._deletes:  # the layer below may have let it inherit some
            os.chmod(where, mode)
        self._set_ids.pop(path, None)
        if entry.mode & _SET_ID:
            self._set_ids[path] = entry.mode
        if entry.xattrs:
            self._xattrs(entry, where)
        self._implied.pop(path, None)
        self._directories.append((path, entry.mtime))

    def _link(self, entry: Entry, path: bytes) -> None:
        target = layer.clean(entry.link)
        if not target:
            raise HostileArchive(f"the archive holds a hard link to its root: {layer.show(path)}")
        if target == path:
            return
        os.lstat(target)  # before anything at path gives way
        if target in self._digests:
            self._list(path, self._digests[target])
        self._make(lambda path: os.link(target, path, follow_symlinks=False), path)

    def _special(self, entry: Entry) -> Maker:
        if entry.type == tarstream.SYMLINK:
            if not entry.link or b"\0" in entry.link:
                raise HostileArchive(f"the archive holds an empty symbolic link: {layer.show(entry.name)}")
            self.linked += len(entry.link)
            return lambda path: os.symlink(entry.link, path)
        if entry.type == tarstream.CHARACTER and entry.device == (0, 0):
            # to overlayfs this is a whiteout; the format has its own way to say so
            raise HostileArchive(f"the archive holds a device 0:0: {layer.show(entry.name)}")
        mode = _DEVICES[entry.type] | entry.mode
        return lambda path: os.mknod(path, mode, os.makedev(*entry.device))

    def _is_foreign(self, entry: Entry) -> bool:
        """Whether somebody else owns it than a new file has: root, where no layer below has a say."""
        return self._owners and bool(entry.uid or entry.gid or self._deletes)

    def _attributes(self, entry: Entry, path: bytes) -> None:
        if self._is_foreign(entry):
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
            if entry.mode & _SET_ID and entry.type != tarstream.SYMLINK:
                os.chmod(path, entry.mode)
        if entry.xattrs:
            self._xattrs(entry, path)
        os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)

    def _xattrs(self, entry: Entry, where: bytes | int) -> None:
        for name, value in entry.xattrs:
            if name.startswith((b"trusted.overlay.", self._overlay)) or b"\0" in name or not name:
                raise HostileArchive(f"the archive sets the attribute {layer.show(name)}")
            try:
                if isinstance(where, int):
                    os.setxattr(where, name, value)
                else:
                    os.setxattr(where, name, value, follow_symlinks=False)
            except OSError as error:
                # As Docker: an attribute this file system does not know is left out, an ability never.
                if error.errno != errno.ENOTSUP or name == b"security.capability":
                    raise

    def _whiteout(self, entry: Entry, path: bytes, source: Source) -> bool:
        """Whether the entry was a whiteout, done here. Entries of the same layer are not hidden by it."""
        sense, concerned = layer.sense(path)
        if sense == "ordinary":
            return False
        if entry.type == tarstream.REGULAR:
            source.skip(entry.size)
        if sense == "skip":
            return True
        if sense == "opaque":
            if self._deletes:
                self._empty(concerned)
            else:
                self._parents(concerned + b"/x")
                self._make_opaque(concerned)
        elif self._deletes:
            if concerned in self._unpacked:
                self._empty(concerned)
            else:
                _remove(concerned)
        elif _is_directory(concerned):
            self._make_opaque(concerned)
        elif not os.path.lexists(concerned):
            self._parents(concerned)
            os.mknod(concerned, stat.S_IFCHR, 0)
        return True

    def _make_opaque(self, directory: bytes) -> None:
        os.setxattr(directory or b".", self._overlay + b"opaque", b"y")

    def _make(self, make: Maker, path: bytes, *, directory: bool = False) -> None:
        """make(path), after its parents are there and what stands in its place is gone."""
        self._parents(path)
        hidden = not self._deletes and _is_whiteout(path)
        _remove(path)
        make(path)
        if directory and hidden:
            self._make_opaque(path)  # the whiteout it replaces hid a lower directory; it must stay hidden

    def _parents(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if not parent or _is_directory(parent, follow=True):
            return
        self._parents(parent)
        hidden = not self._deletes and _is_whiteout(parent)
        if hidden:
            os.unlink(parent)
        os.mkdir(parent, 0o755)
        self._implied[parent] = None
        if hidden:
            self._make_opaque(parent)
            del self._implied[parent]

    def _list(self, path: bytes, digest: Digest) -> None:
        self.listed += len(path) + _DIGITS
        if self.listed > LARGEST_LIST:
            raise HostileArchive(f"the archive holds more files than a list of {LARGEST_LIST} bytes names")
        self._digests[path] = digest

    def _account(self, size: int) -> None:
        self.written += size
        if self._max_bytes is not None and self.written > self._max_bytes:
            raise HostileArchive(f"the archive unpacks to more than {self._max_bytes} bytes")

    def _remember(self, path: bytes) -> None:
        while path and path not in self._unpacked:
            self._unpacked.add(path)
            path = path.rpartition(b"/")[0]

    def _empty(self, directory: bytes) -> None:
        """Delete what lower layers have below directory, and only that."""
        if not _is_directory(directory or b"."):
            return
        for name in os.listdir(directory or b"."):
            child = directory + b"/" + name if directory else name
            if child in self._unpacked:
                self._empty(child)
            else:
                _remove(child)


def _is_directory(path: bytes, *, follow: bool = False) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, follow_symlinks=follow).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_whiteout(path: bytes) -> bool:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _remove(path: bytes) -> None:
    """Whatever is at path; nothing happens when nothing is."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except IsADirectoryError:
        with os.scandir(path) as children:
            for child in children:
                _remove(child.path)
        os.rmdir(path)
