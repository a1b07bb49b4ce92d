"""A directory as the tar of a build context: without what .dockerignore names, owned by root, as it is read.

Sorted by name, so the same directory gives the same bytes. Imported when something is built.
"""

from __future__ import annotations

import os
import stat
from struct import Struct

from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from skiff.docker.dockerignore import Patterns

BLOCK = 512
PIECE = 1 << 18
IGNORE = ".dockerignore"
_HEADER = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


class Context:
    """root: the directory. dockerfile: its path below root, or "" when extra holds it.

    extra: files beside those of the directory, by name: a Dockerfile from elsewhere, its .dockerignore.
    own_ignore: the text of .dockerignore, when it is known already.
    """

    def __init__(
        self,
        root: str,
        dockerfile: str,
        extra: dict[str, bytes] | None = None,
        *,
        own_ignore: bytes | None = None,
    ) -> None:
        self.root = root
        self.dockerfile = dockerfile
        self.extra = extra or {}
        self.size = 0  # bytes of the tar, once it was read
        self.ignore = self._ignore() if own_ignore is None else own_ignore
        self._patterns = _patterns(self.ignore)
        self._links: dict[tuple[int, int], bytes] = {}

    def _ignore(self) -> bytes:
        if IGNORE in self.extra:
            return self.extra[IGNORE]
        for name in (f"{self.dockerfile}{IGNORE}" if self.dockerfile else "", IGNORE):
            try:
                with open(os.path.join(self.root, name), "rb") as file:
                    return file.read()
            except (FileNotFoundError, IsADirectoryError):
                continue
        return b""

    def tar(self) -> Iterator[bytes]:
        """The archive in chunks of about PIECE bytes. InvalidParameter for what cannot be read."""
        held: list[bytes] = []
        size = 0
        try:
            for data in self._blocks():
                held.append(data)
                size += len(data)
                if size >= PIECE:
                    self.size += size
                    yield b"".join(held)
                    held, size = [], 0
        except PermissionError as error:
            raise InvalidParameter(f"error checking context: can't stat '{error.filename}'") from error
        padding = bytes(2 * BLOCK)
        self.size += size + len(padding)
        yield b"".join([*held, padding])

    def _blocks(self) -> Iterator[bytes]:
        for path, name, status in self.files():
            if stat.S_ISDIR(status.st_mode):
                yield header(b"5", os.fsencode(name) + b"/", status.st_mode, 0, int(status.st_mtime))
            else:
                yield from self._file(path, os.fsencode(name), status)
        for name, data in sorted(self.extra.items()):
            yield header(b"0", name.encode(), 0o644, len(data), 0)
            yield data + bytes(-len(data) % BLOCK)

    def files(self) -> Iterator[tuple[str, str, os.stat_result]]:
        """(path, name in the context, lstat) of what goes in, directories before what is in them."""
        pending = [_children(self.root)]
        prefixes = [""]
        extra, patterns = self.extra, self._patterns
        while pending:
            if not pending[-1]:
                pending.pop()
                prefixes.pop()
                continue
            child = pending[-1].pop()
            name = prefixes[-1] + child.name
            if name in extra:
                continue
            status = child.stat(follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            if patterns is None or not self._is_left_out(patterns, name, is_directory):
                yield child.path, name, status
            elif not is_directory or (patterns.excludes_all_of(name) and not self._leads_to_dockerfile(name)):
                continue
            if is_directory:
                pending.append(_children(child.path))
                prefixes.append(f"{name}/")

    def _is_left_out(self, patterns: Patterns, name: str, is_directory: bool) -> bool:
        # the engine reads these two, and then takes them away
        if not is_directory and self.dockerfile and name in (self.dockerfile, IGNORE):
            return False
        return patterns.excludes(name)

    def _leads_to_dockerfile(self, name: str) -> bool:
        return bool(self.dockerfile) and self.dockerfile.startswith(f"{name}/")

    def _file(self, path: str, name: bytes, status: os.stat_result) -> Iterator[bytes]:
        mode, changed = status.st_mode, int(status.st_mtime)
        if stat.S_ISLNK(mode):
            yield header(b"2", name, 0o777, 0, changed, os.fsencode(os.readlink(path)))
        elif stat.S_ISFIFO(mode):
            yield header(b"6", name, mode, 0, changed)
        elif stat.S_ISREG(mode):
            if status.st_nlink > 1:
                first = self._links.setdefault((status.st_dev, status.st_ino), name)
                if first is not name:
                    yield header(b"1", name, mode, 0, changed, first)
                    return
            yield header(b"0", name, mode, status.st_size, changed)
            yield from content(path, status.st_size)


def _patterns(text: bytes) -> Patterns | None:
    """Those of a .dockerignore; None when there are none: most contexts have none, and `re` loads slowly."""
    if not text.strip():
        return None
    from skiff.docker import dockerignore

    return dockerignore.Patterns(dockerignore.parse(text))


def _children(path: str) -> list[os.DirEntry[str]]:
    """The last name first."""
    with os.scandir(path) as scan:
        return sorted(scan, key=_name, reverse=True)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def content(path: str, size: int) -> Iterator[bytes]:
    """A file's bytes, and zeros up to the next block; one that became shorter meanwhile is filled up."""
    left = size
    with open(path, "rb", buffering=0) as file:
        while left and (data := file.read(min(left, 1 << 20))):
            left -= len(data)
            yield data
    yield bytes(left + -size % BLOCK)


def header(kind: bytes, name: bytes, mode: int, size: int, mtime: int, link: bytes = b"") -> bytes:
    """A ustar header, pax records before it where a name is long or a number large. POSIX pax(1)."""
    records = b""
    if len(name) > 100 or not name.isascii():
        records += _record(b"path", name)
    if len(link) > 100 or not link.isascii():
        records += _record(b"linkpath", link)
    if size >= 1 << 33:
        records += _record(b"size", b"%d" % size)
    block = _block(kind, name, mode & 0o7777, size if size < 1 << 33 else 0, max(mtime, 0), link)
    if not records:
        return block
    return _block(b"x", b"PaxHeaders.0/" + name[-80:], 0o644, len(records), 0, b"") + (
        records + bytes(-len(records) % BLOCK) + block
    )


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(kind: bytes, name: bytes, mode: int, size: int, mtime: int, link: bytes) -> bytes:
    zero = b"0000000\0"
    block = _HEADER.pack(
        name[:100],
        b"%07o\0" % mode,
        zero,
        zero,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b"        ",
        kind,
        link[:100],
        b"ustar\x0000",
        b"",
        b"",
        zero,
        zero,
        b"",
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
