"""Copies of file trees with all that a file has: owners, times, attributes, hard links, holes, devices.

Data is shared with the original where the file system can (reflink), else copied in the kernel.
"""

import contextlib
import errno
import fcntl
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_FICLONE = 0x40049409
_SMALL = 1 << 17  # bytes that read and write move faster than a search for holes
_MOST_OPEN = 256  # files with several names; those of further ones become files
# a file system without them; a file that somebody has deleted meanwhile
_NO_LINK = (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT)
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


def copy_tree(source: str, target: str) -> None:
    """Make target, which is empty or not there, a copy of the directory source. Sockets are left out."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(target, 0o700)
    below = os.open(source, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        top = os.open(target, _DIRECTORY)
        try:
            _Copy(top).content(below, top, "")
        finally:
            os.close(top)
    finally:
        os.close(below)


def copy_content(source: str, target: str) -> None:
    """Give the directory target, which others may have at hand, the content and attributes of source.

    Devices and sockets are left out. FileExistsError for what is there already.
    """
    below = os.open(source, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        top = os.open(target, _DIRECTORY)
        copy = _Copy(-1)
        try:
            copy.content(below, top, "")
        finally:
            copy.close()
            os.close(top)
    finally:
        os.close(below)


def copy_data(reader: int, writer: int, size: int) -> bool:
    """The data of a file into an empty one. Whether they share it; if not, holes stay holes."""
    if clone(reader, writer):
        return True
    _copy_extents(reader, writer, size)
    return False


def clone(reader: int, writer: int) -> bool:
    """Let a file share the data of another; False where their file system cannot. ioctl_ficlone(2)."""
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    return True


class _Copy:
    """One copy, by descriptors: whoever writes in either tree meanwhile cannot lead it elsewhere.

    top: of a target that is ours alone, for devices, and for hard links by their names; else -1: then files
    with several names are kept open until the end.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._is_root = os.geteuid() == 0
        self._can_clone = True
        self._linked: dict[tuple[int, int], str] = {}
        self._open: dict[tuple[int, int], int] = {}

    def content(self, source: int, target: int, path: str) -> None:
        for name in os.listdir(source):
            try:
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
            except FileNotFoundError:  # deleted meanwhile
                continue
            self._child(source, target, name, status, f"{path}/{name}" if path else name)
        self._attributes(source, target, os.fstat(source))

    def _child(self, source: int, target: int, name: str, status: os.stat_result, path: str) -> None:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            below = os.open(name, _DIRECTORY, dir_fd=source)
            try:
                os.mkdir(name, 0o700, dir_fd=target)
                new = os.open(name, _DIRECTORY, dir_fd=target)
                try:
                    self.content(below, new, path)
                finally:
                    os.close(new)
            finally:
                os.close(below)
            return
        if self._top >= 0 and status.st_nlink > 1:
            first = self._linked.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
                return
        if kind == stat.S_IFREG:
            if not self._has_linked(status, target, name):
                self._file(source, target, name)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            self._special(source, target, name, status)
        elif kind == stat.S_IFIFO or (kind != stat.S_IFSOCK and self._top >= 0):
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
            self._special(source, target, name, status)

    def _has_linked(self, status: os.stat_result, target: int, name: str) -> bool:
        """Whether it was a further name of a file that is open."""
        first = self._open.get((status.st_dev, status.st_ino), -1)
        if first < 0:
            return False
        try:
            os.link(f"/proc/self/fd/{first}", name, dst_dir_fd=target, follow_symlinks=True)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return False
        return True

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _file(self, source: int, target: int, name: str) -> None:
        reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
        try:
            status = os.fstat(reader)
            if not stat.S_ISREG(status.st_mode):  # replaced meanwhile
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(name, flags, 0o600, dir_fd=target)
            try:
                self._data(reader, writer, status.st_size)
                self._attributes(reader, writer, status)
                if self._top < 0 and status.st_nlink > 1 and len(self._open) < _MOST_OPEN:
                    self._open[status.st_dev, status.st_ino] = os.dup(writer)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _data(self, reader: int, writer: int, size: int) -> None:
        if self._can_clone or size > _SMALL:
            self._can_clone = copy_data(reader, writer, size)
            return
        data = os.read(reader, size)
        while data:
            data = data[os.write(writer, data) :]

    def _attributes(self, source: int, target: int, status: os.stat_result) -> None:
        # what is new in a tree of ours is root's already
        if self._is_root and (status.st_uid or status.st_gid or self._top < 0):
            os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        self._xattrs(source, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _special(self, source: int, target: int, name: str, status: os.stat_result) -> None:
        """Of what cannot be opened without an effect: a link, a device, a FIFO."""
        made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            if self._is_root:
                os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                os.chmod(f"/proc/self/fd/{made}", stat.S_IMODE(status.st_mode))
        finally:
            os.close(made)
        self._xattrs(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}")
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _xattrs(self, source: int | str, target: int | str) -> None:
        for name in _listed(source):
            if self._top < 0 and name.startswith(_OVERLAY):
                continue
            try:
                if isinstance(source, int):
                    os.setxattr(target, name, os.getxattr(source, name))
                else:
                    value = os.getxattr(source, name, follow_symlinks=False)
                    os.setxattr(target, name, value, follow_symlinks=False)
            except OSError as error:
                # a volume may lie on a file system that has none
                if self._top >= 0 or error.errno != errno.ENOTSUP:
                    raise


def _listed(source: int | str) -> list[str]:
    return os.listxattr(source) if isinstance(source, int) else os.listxattr(source, follow_symlinks=False)


def _copy_extents(reader: int, writer: int, size: int) -> None:
    """The data; holes stay holes."""
    os.truncate(writer, size)
    at = 0
    while at < size:
        try:
            start = os.lseek(reader, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(reader, start, os.SEEK_HOLE)
        while start < end:
            moved = _move(reader, writer, start, end - start)
            if not moved:  # it became shorter while we read
                return
            start += moved
        at = end


def _move(reader: int, writer: int, at: int, count: int) -> int:
    try:
        return os.copy_file_range(reader, writer, count, at, at)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    os.lseek(writer, at, os.SEEK_SET)
    return os.sendfile(writer, reader, at, count)
