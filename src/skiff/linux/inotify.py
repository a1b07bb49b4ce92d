"""inotify(7): a descriptor that becomes readable when something changes. No policy."""

import os
from typing import Final

from skiff.linux.libc import check, libc

IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800


def watch(events: int, *paths: str) -> int:
    """A new descriptor, non-blocking, close-on-exec, that tells of these events at the paths. OSError."""
    fd: int = check(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
    try:
        for path in paths:
            check(libc.inotify_add_watch(fd, os.fsencode(path), events), "inotify", path)
    except OSError:
        os.close(fd)
        raise
    return fd
