"""Walking trees, and deleting those that others filled: of any depth, without following a link, never into
another mount.

A directory below the top that is not empty gives its own directories to the top first: no recursion, two
descriptors however deep it is.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from skiff.linux import safepath

_ATTEMPTS: Final = 5
_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: str) -> None:
    """Delete a directory and all below it; what is gone already, or goes meanwhile, is no error.

    A process that is being killed may still make files in it: they go too.
    OSError EXDEV when something is mounted below: that stays, for it is somebody else's.
    """
    with suppress(FileNotFoundError):
        top = os.open(path, _READ)
        try:
            for attempt in range(_ATTEMPTS):
                _empty(top)
                try:
                    return os.rmdir(path)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY or attempt == _ATTEMPTS - 1:
                        raise
        finally:
            os.close(top)


def files(path: str) -> Iterator[os.stat_result]:
    """The status of everything below a directory that is no directory itself."""
    pending = [path]
    while pending:
        with os.scandir(pending.pop()) as children:
            for child in children:
                if child.is_dir(follow_symlinks=False):
                    pending.append(child.path)
                else:
                    yield child.stat(follow_symlinks=False)


def _empty(top: int) -> None:
    mark, number = secrets.token_hex(8), 0
    while directories := _delete_files(top):
        for name in directories:
            try:
                inner = safepath.open_below(top, name, _READ)
            except FileNotFoundError:
                continue
            try:
                for below in _delete_files(inner):
                    with suppress(FileNotFoundError):
                        os.rename(below, f".{mark}-{number}", src_dir_fd=inner, dst_dir_fd=top)
                    number += 1
            finally:
                os.close(inner)
            try:
                os.rmdir(name, dir_fd=top)
            except OSError as error:  # filled again meanwhile: it comes with the next round
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                    raise


def _delete_files(directory: int) -> list[str]:
    """Names of the directories in it; everything else is deleted."""
    kept = []
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                kept.append(name)
            else:
                os.unlink(name, dir_fd=directory)
    return kept
