"""What a context is made of, as a client tells it before it sends anything. Pure.

    manifest := { record }
    record   := kind " " mode " " size " " mtime_ns " " identity " " path NUL [ target NUL ]
    kind     := d f l p h        target: of a symbolic link (l), the first name of a hard link (h)

mode: st_mode, octal. Two files are the same when their whole records are: identity is the client's inode
number and ctime.
"""

import os
import stat

from msgspec import Struct

from skiff.errors import InvalidParameter

_LONGEST_MODE = 7  # digits
_OCTAL = frozenset(b"01234567")
_LONGEST_NUMBER = 20  # digits; more of them are neither bytes nor nanoseconds


class Record(Struct, frozen=True):
    """mode: permissions. size in bytes; seconds: its mtime, as whole as a tar has it."""

    kind: str
    path: str
    target: str
    mode: int
    size: int
    seconds: int
    text: bytes  # the whole record: what makes it the same as another


def read_manifest(data: bytes) -> tuple[Record, ...]:
    """See above. InvalidParameter: not a manifest, or a path that is not one of a file below a directory."""
    records = []
    fields = iter(data.split(b"\0"))
    seen: set[str] = set()
    try:
        for text in fields:
            if not text:
                break
            kind, mode, size, changed, _identity, path = text.split(b" ", 5)
            target = next(fields) if kind in (b"l", b"h") else b""
            name = os.fsdecode(path)
            if kind not in (b"d", b"f", b"l", b"p", b"h") or not _is_plain(name):
                raise ValueError(name)
            if not mode or len(mode) > _LONGEST_MODE or not _OCTAL.issuperset(mode):
                raise ValueError(name)
            if not _is_number(size) or not _is_number(changed.removeprefix(b"-")):
                raise ValueError(name)
            if name in seen:
                raise ValueError(f"{name} twice")
            seen.add(name)
            whole = text + b"\0" + target
            seconds = max(0, int(changed) // 1_000_000_000)
            permissions = stat.S_IMODE(int(mode, 8))
            records.append(
                Record(kind.decode(), name, os.fsdecode(target), permissions, int(size), seconds, whole)
            )
    except (ValueError, StopIteration) as error:
        raise InvalidParameter(f"invalid build context manifest: {error}") from error
    if any(True for _ in fields):
        raise InvalidParameter("invalid build context manifest: an empty record")
    return tuple(records)


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= _LONGEST_NUMBER


def _is_plain(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/"))
