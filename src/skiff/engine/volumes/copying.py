"""First use of an empty volume: it receives what the image has at that place.

Owners, modes, times, links and extended attributes are kept; devices and sockets are not copied.
"""

import os
import shutil
import stat


def is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def fill(target: str, source: str) -> None:
    """Copy the content of `source` into the empty directory `target`, and give it the same owner and mode."""
    _directory(source, target)


def size(directory: str) -> int:
    """Bytes allocated below a directory, of its own file system. Hard links count once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            try:
                about = os.lstat(f"{where}/{name}")
            except FileNotFoundError:
                continue
            key = (about.st_dev, about.st_ino)
            if key not in seen:
                seen.add(key)
                total += about.st_size
    return total


def _directory(source: str, target: str) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            to = f"{target}/{entry.name}"
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                os.mkdir(to)
                _directory(entry.path, to)
                continue
            if stat.S_ISLNK(about.st_mode):
                os.symlink(os.readlink(entry.path), to)
            elif stat.S_ISREG(about.st_mode):
                shutil.copyfile(entry.path, to)
            elif stat.S_ISFIFO(about.st_mode):
                os.mkfifo(to)
            else:
                continue
            _attributes(entry.path, to)
    _attributes(source, target)


def _attributes(source: str, target: str) -> None:
    about = os.lstat(source)
    os.lchown(target, about.st_uid, about.st_gid)
    shutil.copystat(source, target, follow_symlinks=False)
