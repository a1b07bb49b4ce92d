"""Copies of file trees with all that a file has: owners, times, attributes, hard links, holes, devices.

Data is shared with the original where the file system can (reflink), else copied in the kernel.
"""

import errno
import fcntl
import os
import stat

_FICLONE = 0x40049409
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


def copy_tree(source: str, target: str) -> None:
    """Make target, which must not exist, a copy of the directory source. Sockets are left out."""
    os.mkdir(target, 0o700)
    _copy_children(source, target, {})
    _copy_attributes(source, target, os.lstat(source))


def _copy_children(source: str, target: str, linked: dict[int, str]) -> None:
    with os.scandir(source) as children:
        for child in children:
            status = child.stat(follow_symlinks=False)
            new = f"{target}/{child.name}"
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                os.mkdir(new, 0o700)
                _copy_children(child.path, new, linked)
            elif status.st_nlink > 1 and status.st_ino in linked:
                os.link(linked[status.st_ino], new, follow_symlinks=False)
                continue
            elif kind == stat.S_IFREG:
                _copy_file(child.path, new, status.st_size)
            elif kind == stat.S_IFLNK:
                os.symlink(os.readlink(child.path), new)
            elif kind == stat.S_IFSOCK:
                continue
            else:
                os.mknod(new, kind | 0o600, status.st_rdev)
            if status.st_nlink > 1 and kind != stat.S_IFDIR:
                linked[status.st_ino] = new
            _copy_attributes(child.path, new, status)


def _copy_file(source: str, target: str, size: int) -> None:
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.ioctl(writer, _FICLONE, reader)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                _copy_data(reader, writer, size)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_data(reader: int, writer: int, size: int) -> None:
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


def _copy_attributes(source: str, target: str, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
