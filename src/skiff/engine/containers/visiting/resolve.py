"""What a path inside a container means: links followed as Docker follows them, and what is found there.

It runs in a process whose root is the container's: no path can leave it, whatever its links say.
"""

import os
import stat
from datetime import UTC, datetime

MOST_LINKS = 255
_DIRECTORY, _SYMLINK, _DEVICE, _FIFO, _SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_CHARACTER = 1 << 21
# mode bit → bit of Go's fs.FileMode
_SPECIAL = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}
_KINDS = {
    stat.S_IFDIR: _DIRECTORY,
    stat.S_IFLNK: _SYMLINK,
    stat.S_IFBLK: _DEVICE,
    stat.S_IFCHR: _DEVICE | _CHARACTER,
    stat.S_IFIFO: _FIFO,
    stat.S_IFSOCK: _SOCKET,
}


class TooManyLinks(Exception):
    """Links that lead to one another."""


def absolute(path: bytes) -> bytes:
    """The path from the root, cleaned by text alone; a trailing `/` or `/.` stays, for it has a meaning."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            parts[-1:] = []
        elif part not in (b"", b"."):
            parts.append(part)
    clean = b"/" + b"/".join(parts)
    end = path.rstrip(b"/")
    if end.endswith(b"/.") or end == b".":
        return clean.rstrip(b"/") + b"/."
    if path.endswith(b"/") and clean != b"/":
        return clean + b"/"
    return clean


def base(path: bytes) -> bytes:
    """The last part of an absolute path: `.` of `/a/.`, `a` of `/a/`, `/` of the root."""
    return path.rstrip(b"/").rpartition(b"/")[2] or b"/"


def means_content(path: bytes) -> bool:
    """Whether an absolute path ends so that it names a directory, not a link to one."""
    return path.endswith((b"/", b"/."))


def resolved(path: bytes, *, last: bool) -> bytes:
    """The path without links. last: the last part is followed too. What is not there is kept by name.

    TooManyLinks.
    """
    todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    done: list[bytes] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == b"..":
            done[-1:] = []
            continue
        here = b"/" + b"/".join([*done, part])
        if todo or last:
            try:
                target = os.readlink(here)
            except OSError:  # no link, or nothing at all
                target = b""
            if target:
                links += 1
                if links > MOST_LINKS:
                    raise TooManyLinks
                if target.startswith(b"/"):
                    done = []
                todo += [one for one in reversed(target.split(b"/")) if one not in (b"", b".")]
                continue
        done.append(part)
    return b"/" + b"/".join(done)


def file_mode(mode: int) -> int:
    """st_mode as Go's fs.FileMode, which the API carries."""
    bits = sum(bit for ours, bit in _SPECIAL.items() if mode & ours)
    return mode & 0o777 | bits | _KINDS.get(stat.S_IFMT(mode), 0)


def instant(ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 with as many digits as are needed."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + f".{fraction:09}".rstrip("0").rstrip(".") + "Z"
