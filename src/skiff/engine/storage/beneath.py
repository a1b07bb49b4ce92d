"""Looking into a stack of layer directories without ever following a symbolic link out of it.

The directories hold what images brought: every step opens one name below a descriptor, never a path.
"""

import enum
import os
import stat
from collections.abc import Iterator, Sequence

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = ("trusted.overlay.", "user.overlay.")


class Found(enum.Enum):
    """What a path is when it is not a directory of some layer."""

    NOTHING = enum.auto()
    ELSEWHERE = enum.auto()  # a symbolic link is on the way: the name means another place


def look(stack: Sequence[str], path: str) -> str | Found:
    """The topmost layer directory of stack where path is a directory that can be seen from above."""
    for found, fd in _layers(stack, path):
        if fd >= 0:
            os.close(fd)
        return found
    return Found.NOTHING


def visible(stack: Sequence[str], path: str) -> bool:
    """Whether there is anything at path when one looks at stack from above."""
    parent, _, name = path.rpartition("/")
    for found, fd in _layers(stack, parent):
        if isinstance(found, Found):
            return False
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)
        except FileNotFoundError:
            continue
        finally:
            os.close(fd)
    return False


def _layers(stack: Sequence[str], path: str) -> Iterator[tuple[str | Found, int]]:
    """The layers where path is a directory, from the top, each with a descriptor that the caller closes.

    Ends where a layer hides those below; a symbolic link on the way is (ELSEWHERE, -1).
    """
    for directory in stack:
        fd = os.open(directory, _STEP & ~os.O_NOFOLLOW)
        hides = False
        complete = True
        for part in path.split("/") if path else ():
            try:
                status = os.stat(part, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                complete = False
                break
            if stat.S_ISLNK(status.st_mode):
                os.close(fd)
                yield Found.ELSEWHERE, -1
                return
            if not stat.S_ISDIR(status.st_mode):  # a whiteout, or a file in its place
                os.close(fd)
                return
            below = os.open(part, _STEP, dir_fd=fd)
            os.close(fd)
            fd = below
            hides = hides or _is_opaque(fd)
        if complete:
            yield directory, fd
        else:
            os.close(fd)
        if hides:
            return


def copy_attributes(stack: Sequence[str], path: str, own: str) -> None:
    """Give own/path mode, owner, times and attributes of the directory that path is in stack."""
    where = look(stack, path)
    if isinstance(where, Found):
        return
    source, target = step_into(where, path), step_into(own, path)
    try:
        status = os.fstat(source)
        if os.geteuid() == 0:
            os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source):
            if not name.startswith(_PRIVATE):
                os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(source)
        os.close(target)


def step_into(directory: str, path: str) -> int:
    """A descriptor of directory/path, no part of path being a symbolic link."""
    fd = os.open(directory, _STEP & ~os.O_NOFOLLOW)
    for part in path.split("/") if path else ():
        try:
            below = os.open(part, _STEP, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:  # no such attribute, or none of that kind on this file system
            continue
    return False
