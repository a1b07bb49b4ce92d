"""A layer's tree made anew while its tar is packed (diff.py): what is read once serves both.

The directory is ours alone. It is empty, and every directory in it is of our making; or it is a copy of what
the layer lies on, and what the layer changes there gives way. No name leads elsewhere: parents come first.
"""

import os
import stat

from skiff.engine.storage import copying
from skiff.linux import trees

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Xattrs = tuple[tuple[bytes, bytes], ...]


class Replica:
    """Paths are absolute inside the tree, parents come first, `finish` comes last.

    over: the directory is a copy of the tree below. size: bytes of files and of the targets of symbolic
    links so far.
    """

    def __init__(self, directory: str, *, over: bool = False) -> None:
        self._top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._over = over
        self._is_root = os.geteuid() == 0
        self._directories: list[tuple[str, int]] = []
        self.size = 0

    def small(self, path: str, status: os.stat_result, xattrs: Xattrs, data: bytes) -> None:
        """A regular file with that content."""
        self._give_way(path)
        fd = os.open(path[1:], _NEW, 0o600, dir_fd=self._top)
        try:
            while data:
                data = data[os.write(fd, data) :]
            self._complete(fd, status, xattrs)
        finally:
            os.close(fd)

    def large(self, path: str, status: os.stat_result, xattrs: Xattrs, source: int) -> int:
        """A regular file with the content of source; a descriptor to read it from, the caller's to close."""
        self._give_way(path)
        fd = os.open(path[1:], _NEW, 0o600, dir_fd=self._top)
        try:
            copying.copy_data(source, fd, status.st_size)
            self._complete(fd, status, xattrs)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def directory(self, path: str, status: os.stat_result, xattrs: Xattrs) -> None:
        if self._over and self._is_directory(path):
            for name in os.listxattr(self._where(path), follow_symlinks=False):
                os.removexattr(self._where(path), name, follow_symlinks=False)
        else:
            self._give_way(path)
            os.mkdir(path[1:], 0o700, dir_fd=self._top)
        self._dress(path, status, xattrs)
        self._directories.append((path, status.st_mtime_ns))

    def symlink(self, path: str, status: os.stat_result, xattrs: Xattrs, target: bytes) -> None:
        self._give_way(path)
        os.symlink(target, os.fsencode(path[1:]), dir_fd=self._top)
        self.size += len(target)
        self._dress(path, status, xattrs)

    def device(self, path: str, status: os.stat_result, xattrs: Xattrs) -> None:
        """A device or a FIFO."""
        self._give_way(path)
        os.mknod(path[1:], stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=self._top)
        self._dress(path, status, xattrs)

    def link(self, path: str, first: bytes) -> None:
        """Another name of a file; first: the one it has, without the leading slash."""
        self._give_way(path)
        name, top = os.fsencode(path[1:]), self._top
        os.link(first, name, src_dir_fd=top, dst_dir_fd=top, follow_symlinks=False)

    def whiteout(self, path: str) -> None:
        self._give_way(path)
        if not self._over:
            os.mknod(path[1:], stat.S_IFCHR, 0, dir_fd=self._top)

    def opaque(self, path: str, mark: str) -> None:
        """mark: the attribute by which overlayfs knows."""
        os.setxattr(self._where(path), mark, b"y")

    def finish(self) -> None:
        """Directories get their times, after all that is in them."""
        for path, mtime in reversed(self._directories):
            os.utime(path[1:], ns=(mtime, mtime), dir_fd=self._top)

    def close(self) -> None:
        os.close(self._top)

    def _complete(self, fd: int, status: os.stat_result, xattrs: Xattrs) -> None:
        """What a file has beside its content, in an order in which nothing takes away from what went before:
        writing and chown(2) clear the bits that set an identity, and capabilities.
        """
        self.size += status.st_size
        if self._is_root:  # what is in a directory with S_ISGID is not root's by itself
            os.fchown(fd, status.st_uid, status.st_gid)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
        for name, value in xattrs:
            os.setxattr(fd, name, value)
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def _dress(self, path: str, status: os.stat_result, xattrs: Xattrs) -> None:
        """The same for what is not opened."""
        name = path[1:]
        if self._is_root:
            os.chown(name, status.st_uid, status.st_gid, dir_fd=self._top, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=self._top)
        for key, value in xattrs:
            os.setxattr(self._where(path), key, value, follow_symlinks=False)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=self._top, follow_symlinks=False)

    def _give_way(self, path: str) -> None:
        """What a copy has there goes."""
        if not self._over:
            return
        try:
            os.unlink(path[1:], dir_fd=self._top)
        except IsADirectoryError:
            trees.remove(self._where(path))
        except FileNotFoundError:
            pass

    def _is_directory(self, path: str) -> bool:
        try:
            found = os.stat(path[1:], dir_fd=self._top, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISDIR(found.st_mode)

    def _where(self, path: str) -> str:
        """A path for calls that take no directory descriptor."""
        return f"/proc/self/fd/{self._top}{path}"
