"""Local files as a tar stream and back, for `cp`. Built-in modules only: its import is part of every copy.

Packing follows no link. Unpacking trusts nothing: each name is opened below a descriptor, `..` and links on
the way are refused. POSIX pax(1) § ustar Interchange Format.
"""

from __future__ import annotations

import posix
import stat

from skiff.client.bulk import FilePart
from skiff.client.streams import write_all
from skiff.errors import HostileArchive, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from skiff.client.bulk import Body
    from skiff.client.connection import Pieces

    Links = dict[tuple[int, int], bytes]  # device, inode → its first name in the archive

BLOCK = 512
PIECE = 1 << 17  # what a socket takes at once: we go on while the engine unpacks
LARGE = 1 << 18  # bytes of a file that are not worth a copy
LARGEST_HEADER = 1 << 20
_MAGIC = b"ustar\x0000" + bytes(64)  # and no names of owner and group
_NOTHING = bytes(BLOCK)
_VALUES: dict[bytes, int] = {}
_NO_DEVICE = b"0000000\0" * 2
_CONSTANT = sum(_MAGIC) + sum(b"        ")  # the checksum counts as spaces
_STEP = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC


def packed(path: bytes, title: bytes) -> Pieces:
    """The archive of a file or tree; title: what its top is called. OSError."""
    held: list[bytes] = []
    size = 0
    for piece in _entry(path, title, {}):
        if isinstance(piece, FilePart):
            yield b"".join(held)
            held, size = [], 0
            yield piece
            continue
        held.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    held.append(bytes(2 * BLOCK))
    yield b"".join(held)


def _entry(path: bytes, title: bytes, links: Links) -> Iterable[bytes | FilePart]:
    status = posix.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return _file(path, title, links)
    if kind == stat.S_IFDIR:
        return _directory(path, title if title.endswith(b"/") else title + b"/", status, links)
    if first := _first(status, title, links):
        return (_header(b"1", title, status, link=first),)
    if kind == stat.S_IFLNK:
        return (_header(b"2", title, status, link=posix.readlink(path)),)
    if kind == stat.S_IFIFO:
        return (_header(b"6", title, status),)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        flag = b"3" if kind == stat.S_IFCHR else b"4"
        return (_header(flag, title, status, device=status.st_rdev),)
    return ()


def _directory(path: bytes, title: bytes, status: posix.stat_result, links: Links) -> Pieces:
    yield _header(b"5", title, status)
    with posix.scandir(path) as found:
        names = sorted([(one.name, one.is_file(follow_symlinks=False)) for one in found])
    for name, is_file in names:
        below = path + b"/" + name
        yield from (_file if is_file else _entry)(below, title + name, links)


def _first(status: posix.stat_result, title: bytes, links: Links) -> bytes:
    """What the archive calls the same file already, if it does."""
    if status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), title)
        if first is not title:
            return first
    return b""


def _file(path: bytes, title: bytes, links: Links) -> Iterable[bytes | FilePart]:
    fd = posix.open(path, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC)
    is_ours = True
    try:
        status = posix.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise SkiffError(f"{path.decode(errors='replace')} became something else while it was read")
        if first := _first(status, title, links):
            return (_header(b"1", title, status, link=first),)
        size = status.st_size
        head = _header(b"0", title, status, size=size)
        if size >= LARGE:
            is_ours = False
            return _large(head, fd, size)
        data = posix.read(fd, size) if size else b""
        if len(data) < size:
            raise SkiffError(f"{path.decode(errors='replace')} became shorter while it was read")
        return (head, data, bytes(-size % BLOCK))
    finally:
        if is_ours:
            posix.close(fd)


def _large(head: bytes, fd: int, size: int) -> Pieces:
    """A file that is sent without passing through here; its descriptor is closed."""
    try:
        yield head
        yield FilePart(fd, size)
        yield bytes(-size % BLOCK)
    finally:
        posix.close(fd)


def _header(
    kind: bytes,
    title: bytes,
    status: posix.stat_result,
    *,
    size: int = 0,
    link: bytes = b"",
    device: int = 0,
) -> bytes:
    long = b""
    if len(title) > 100:
        long += _record(b"path", title)
    if len(link) > 100:
        long += _record(b"linkpath", link)
    before = b""
    if long:
        plain = _block(b"x", b"PaxHeaders.0/long", 0o644, 0, 0, len(long), 0, b"", 0)
        before = plain + long + bytes(-len(long) % BLOCK)
    mtime = max(0, int(status.st_mtime))
    return before + _block(
        kind,
        title[:100],
        status.st_mode & 0o7777,
        status.st_uid,
        status.st_gid,
        size,
        mtime,
        link[:100],
        device,
    )


def _block(
    kind: bytes,
    title: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: int,
) -> bytes:
    if uid | gid < 1 << 21 and size | mtime < 1 << 33:
        numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    else:
        wide = ((mode, 8), (uid, 8), (gid, 8), (size, 12), (mtime, 12))
        numbers = b"".join(_number(value, width) for value, width in wide)
    end = b"%07o\0%07o\0" % (posix.major(device), posix.minor(device)) if device else _NO_DEVICE
    checksum = sum(title) + sum(numbers) + kind[0] + sum(link) + sum(end) + _CONSTANT
    parts = (
        title.ljust(100, b"\0"),
        numbers,
        b"%06o\0 " % checksum,
        kind,
        link.ljust(100, b"\0"),
        _MAGIC,
        end,
        bytes(167),
    )
    return b"".join(parts)


def _number(value: int, width: int) -> bytes:
    """Octal, or base 256 where that is too short. GNU tar manual, Basic Tar Format."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1, "big")


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


class Reader:
    """A body, read in pieces."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._view = memoryview(b"")

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Exactly size bytes. HostileArchive."""
        while size:
            if not self._view:
                self._view = memoryview(self._body.take())
                if not self._view:
                    raise HostileArchive("unexpected EOF")
            piece = self._view[:size]
            self._view = self._view[len(piece) :]
            size -= len(piece)
            yield piece

    def read(self, size: int) -> bytes:
        if size <= len(self._view):
            data = bytes(self._view[:size])
            self._view = self._view[size:]
            return data
        return b"".join(self.pieces(size))

    def write(self, fd: int, size: int) -> None:
        """Exactly size bytes into a file: most of a large one does not pass through here."""
        here = size if size < LARGE else min(size, len(self._view))
        for piece in self.pieces(here):
            write_all(fd, piece)
        if size > here:
            self._body.pour(fd, size - here)

    def drain(self) -> None:
        while self._body.take():
            pass


class Entry:
    """title, link: as in the archive. mtime: seconds."""

    __slots__ = ("device", "gid", "kind", "link", "mode", "mtime", "size", "title", "uid")

    def __init__(self, block: bytes, records: dict[bytes, bytes]) -> None:
        self.kind = block[156:157]
        has_prefix = block[345] and block[257:265] == b"ustar\x0000"
        prefix = block[345:500].rstrip(b"\0") if has_prefix else b""
        name = block[:100].partition(b"\0")[0]
        self.title = records.get(b"path") or (prefix + b"/" + name if prefix else name)
        self.link = records.get(b"linkpath") or block[157:257].partition(b"\0")[0]
        self.mode = _known(block[100:108]) & 0o7777
        self.uid = int(records.get(b"uid", b"")) if b"uid" in records else _known(block[108:116])
        self.gid = int(records.get(b"gid", b"")) if b"gid" in records else _known(block[116:124])
        self.size = int(records.get(b"size", b"")) if b"size" in records else _value(block[124:136])
        self.mtime = float(records[b"mtime"]) if b"mtime" in records else _known(block[136:148])
        self.device = (_known(block[329:337]), _known(block[337:345]))
        if self.kind in (b"\0", b"7"):
            self.kind = b"5" if self.title.endswith(b"/") else b"0"


def entries(reader: Reader) -> Iterator[Entry]:
    """The entries; whoever takes a regular one reads its size before the next. HostileArchive."""
    from zlib import adler32

    records: dict[bytes, bytes] = {}
    while True:
        block = reader.read(BLOCK)
        if block == _NOTHING:
            return
        # The checksum counts its own field as spaces; the lower half of Adler-32 is a sum modulo 65521.
        field = block[148:156]
        checksum = _known(field)
        if not 0 <= checksum <= 255 * BLOCK or (
            (checksum + sum(field) - 255) % 65521 != adler32(block) & 0xFFFF
        ):
            raise HostileArchive("archive/tar: invalid tar header")
        try:
            entry = Entry(block, records)
        except ValueError:
            raise HostileArchive("archive/tar: invalid tar header") from None
        if entry.kind in b"xgLK":
            if not 0 <= entry.size <= LARGEST_HEADER:
                raise HostileArchive("archive/tar: invalid tar header")
            body = reader.read(entry.size)
            reader.read(-entry.size % BLOCK)
            if entry.kind == b"x":
                records |= _records(body)
            elif entry.kind == b"L":
                records[b"path"] = body.rstrip(b"\0")
            elif entry.kind == b"K":
                records[b"linkpath"] = body.rstrip(b"\0")
            continue
        records = {}
        if entry.size < 0:
            raise HostileArchive("archive/tar: invalid tar header")
        yield entry
        if entry.kind == b"0":
            reader.read(-entry.size % BLOCK)


def _records(body: bytes) -> dict[bytes, bytes]:
    found = {}
    while body:
        length, _, _ = body.partition(b" ")
        size = int(length) if length.isdigit() else 0
        if not len(length) < size <= len(body):
            raise HostileArchive("archive/tar: invalid tar header")
        key, _, value = body[len(length) + 1 : size - 1].partition(b"=")
        found[key] = value
        body = body[size:]
    return found


def _known(field: bytes) -> int:
    """Of fields that most entries have in common."""
    value = _VALUES.get(field)
    if value is None:
        if len(_VALUES) > 1000:
            _VALUES.clear()
        value = _VALUES[field] = _value(field)
    return value


def _value(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise HostileArchive("archive/tar: invalid tar header") from None


def renamed(title: bytes, old: bytes, new: bytes) -> bytes:
    """A title whose first part is old gets new in its place; with no old one, new stands before it all."""
    clean = title
    if b"//" in title or b"/." in title or title[:1] in b"/." or title[-1:] == b"/":
        clean = b"/".join([part for part in title.split(b"/") if part not in (b"", b".")])
    if old:
        head, slash, rest = clean.partition(b"/")
        if head != old:
            return clean
        return new + slash + rest if new else rest
    return b"/".join(filter(None, (new, clean)))


def unpack(body: Body, target: bytes, old: bytes, new: bytes, *, owners: bool) -> None:
    """Extract into the directory target, the top called new instead of old. HostileArchive, OSError.

    owners: keep numeric owners. A file gives way to a file, a directory receives; neither becomes the other.
    """
    root = posix.open(target, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    unpacking = _Unpacking(root, target, owners=owners)
    umask = posix.umask(0)  # the archive says who may do what
    try:
        reader = Reader(body)
        for entry in entries(reader):
            path = renamed(entry.title, old, new)
            link = renamed(entry.link, old, new) if entry.kind == b"1" else entry.link
            unpacking.extract(entry, path, link, reader)
        reader.drain()
        unpacking.finish()
    finally:
        posix.umask(umask)
        unpacking.close()


class _Unpacking:
    def __init__(self, root: int, target: bytes, *, owners: bool) -> None:
        self._root = root
        self._target = target
        self._owners = owners
        self._at: tuple[bytes, int] = (b"", root)
        self._gives_rights = _gives_rights(root)
        self._directories: list[tuple[bytes, int, float]] = []

    def extract(self, entry: Entry, path: bytes, link: bytes, reader: Reader) -> None:
        if b".." in path.split(b"/") or b"\0" in path:
            raise HostileArchive(f"the archive holds a name that leaves its directory: {_show(path)}")
        parent, _, name = path.rpartition(b"/")
        if not name:  # where it goes was there before: that stays as it is
            return
        fd = self._directory(parent)
        if entry.kind == b"5":
            try:
                posix.mkdir(name, 0o700, dir_fd=fd)
            except FileExistsError:
                if not stat.S_ISDIR(posix.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise self._clash("non-directory", name, "directory") from None
            self._directories.append((path, entry.mode, entry.mtime))
            if self._owners:
                posix.chown(name, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
            return
        if entry.kind == b"0":
            self._file(fd, name, entry, reader)
            return
        self._clear(fd, name)
        if entry.kind == b"1":
            above, _, last = link.rpartition(b"/")
            source = self._walk(above)
            try:
                posix.link(last, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)
            finally:
                posix.close(source)
            return
        if entry.kind == b"2":
            posix.symlink(link, name, dir_fd=fd)
        elif entry.kind in b"346":
            kind = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}[entry.kind]
            posix.mknod(name, kind | entry.mode & 0o777, posix.makedev(*entry.device), dir_fd=fd)
        else:
            raise HostileArchive(f"unhandled tar header type {entry.kind[0]}")
        if self._owners:
            posix.chown(name, entry.uid, entry.gid, dir_fd=fd, follow_symlinks=False)
        posix.utime(name, (entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)

    def _file(self, parent: int, name: bytes, entry: Entry, reader: Reader) -> None:
        try:
            fd = posix.open(name, _NEW, entry.mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            fd = posix.open(name, _NEW, entry.mode & 0o777, dir_fd=parent)
        try:
            reader.write(fd, entry.size)
            if self._owners:
                posix.chown(fd, entry.uid, entry.gid)
            # only now: whoever writes clears the bits that set an identity
            if entry.mode > 0o777 or self._gives_rights:
                posix.chmod(fd, entry.mode)
            posix.utime(fd, (entry.mtime, entry.mtime))
        finally:
            posix.close(fd)

    def finish(self) -> None:
        """Directories get their modes and times last."""
        for path, mode, mtime in reversed(self._directories):
            fd = self._walk(path)
            try:
                posix.chmod(fd, mode)
                posix.utime(fd, (mtime, mtime))
            finally:
                posix.close(fd)

    def close(self) -> None:
        if self._at[1] != self._root:
            posix.close(self._at[1])
        posix.close(self._root)

    def _clear(self, parent: int, name: bytes) -> None:
        try:
            posix.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            raise self._clash("directory", name, "non-directory") from None

    def _clash(self, old: str, name: bytes, new: str) -> SkiffError:
        return SkiffError(f'cannot overwrite {old} "{_show(name)}" with {new} "{_show(self._target)}"')

    def _directory(self, path: bytes) -> int:
        """The descriptor of a directory that is there; the last one is kept, for entries come in order."""
        if self._at[0] != path:
            fd = self._walk(path)
            if self._at[1] != self._root:
                posix.close(self._at[1])
            self._at = (path, fd)
            self._gives_rights = _gives_rights(fd)
        return self._at[1]

    def _walk(self, path: bytes) -> int:
        fd = posix.dup(self._root)
        for part in path.split(b"/") if path else ():
            if part == b"..":
                posix.close(fd)
                raise HostileArchive(f"the archive holds a name that leaves its directory: {_show(path)}")
            try:
                below = posix.open(part, _STEP, dir_fd=fd)
            finally:
                posix.close(fd)
            fd = below
        return fd


def _gives_rights(directory: int) -> bool:
    """Whether it has a default ACL, which has a say in the modes of new files. acl(5)."""
    try:
        return bool(posix.getxattr(directory, "system.posix_acl_default"))
    except OSError:  # it has none, or its file system knows none
        return False


def _show(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:200]
