"""inotify(7): a descriptor that becomes readable when something changes. No policy."""

import os
from typing import Final

from skiff.linux.libc import check, libc

IN_MODIFY: Final = 0x2
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100


def watch(path: str, events: int) -> int:
    """A new descriptor, non-blocking, close-on-exec, that tells of these events at path. OSError."""
    fd: int = check(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
    try:
        check(libc.inotify_add_watch(fd, os.fsencode(path), events), "inotify", path)
    except OSError:
        os.close(fd)
        raise
    return fd
