"""Paths inside a root file system that cannot escape it, whatever symlinks it holds.

Every step resolves below a root descriptor by openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS: `..`
and absolute symlinks stay inside. What is returned is a descriptor, never a path: nothing can be swapped
afterwards.
"""

import ctypes
import errno
import os
import stat
import struct
from typing import Final

from skiff.linux.libc import syscall

SYS_OPENAT2: Final = 437
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
_HOW: Final = struct.Struct("=3Q")
_LINKS: Final = 40
_TRIES: Final = 32  # EAGAIN: a rename happened somewhere while resolving


def open_in_root(
    root: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0, *, links: bool = True
) -> int:
    """A descriptor of `path` inside the directory `root`, close-on-exec.

    path: absolute or relative, both meant from the root. links: False refuses every symlink (ELOOP).
    OSError with the path as filename.
    """
    resolve = RESOLVE_IN_ROOT | (RESOLVE_NO_MAGICLINKS if links else RESOLVE_NO_SYMLINKS)
    return _open(root, path, flags, mode, resolve)


def open_below(directory: int, path: str | bytes, flags: int = os.O_PATH) -> int:
    """A descriptor of a relative path that no symlink and no mount lies on.

    OSError: ELOOP for a symlink, EXDEV for a mount or `..`.
    """
    return _open(directory, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)


def _open(root: int, path: str | bytes, flags: int, mode: int, resolve: int) -> int:
    name = os.fsencode(path) or b"."
    way = how(flags, resolve, mode)
    for _ in range(_TRIES):
        fd = syscall(SYS_OPENAT2, root, name, way, len(way))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), os.fsdecode(path))


def how(flags: int, resolve: int, mode: int = 0) -> bytes:
    """What openat2(2) is to do, close-on-exec: struct open_how."""
    return _HOW.pack(flags | os.O_CLOEXEC, mode, resolve)


def make_directories(root: int, path: str | bytes, mode: int = 0o755, links: int = _LINKS) -> int:
    """Mkdir -p inside the root; an O_PATH descriptor of the directory.

    NotADirectoryError if a file is there.
    """
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_in_root(root, path, flags)
    except FileNotFoundError:
        pass
    parent, name = _split(path)
    above = make_directories(root, parent, mode, links)
    try:
        os.mkdir(name, mode, dir_fd=above)
    except FileExistsError:
        # Somebody was faster, or it is a symlink to nothing: what it names is made, inside the root.
        path = _through_link(parent, name, above) or path
        if not links:
            raise
        return make_directories(root, path, mode, links - 1)
    finally:
        os.close(above)
    return open_in_root(root, path, flags)


def _through_link(parent: bytes, name: bytes, above: int) -> bytes:
    try:
        to = os.readlink(name, dir_fd=above)
    except OSError:
        return b""  # no symlink
    return to if to.startswith(b"/") else parent + b"/" + to


def make_mount_point(root: int, path: str | bytes, *, directory: bool) -> int:
    """An O_PATH descriptor of `path`, made with its parents if missing: a directory or an empty file."""
    if directory:
        return make_directories(root, path)
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        pass
    parent, name = _split(path)
    above = make_directories(root, parent)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o755, dir_fd=above))
    finally:
        os.close(above)
    return open_in_root(root, path)


def make_parent(root: int, path: str | bytes) -> tuple[int, bytes]:
    """(descriptor of the parent directory, last name), the parent made if missing: for mknodat, symlinkat."""
    parent, name = _split(path)
    return make_directories(root, parent), name


def is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def fd_path(fd: int) -> str:
    """A name for calls that take only paths. Needs /proc; O_PATH descriptors work."""
    return f"/proc/self/fd/{fd}"


def _split(path: str | bytes) -> tuple[bytes, bytes]:
    """(parent, last name); OSError for a path that names no entry, such as `/` or `a/..`."""
    clean = os.fsencode(path).rstrip(b"/")
    parent, _, name = clean.rpartition(b"/")
    if name in (b"", b".", b".."):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.fsdecode(path))
    return parent or b"/", name
