"""A tar archive as a stream of entries: ustar, GNU long names, base-256 numbers, pax. Reads once, forward.

It knows formats, no file system. Every malformed archive is a HostileArchive; memory is bounded by
LARGEST_HEADER however long the archive says that a header is. POSIX pax(1) § Extended Description; GNU tar
manual, Basic Tar Format. Sparse files are refused.
"""

import binascii
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from struct import Struct

from skiff.errors import HostileArchive
from skiff.oci.layer import show

BLOCK = 512
LARGEST_HEADER = (
    1 << 20
)  # bytes of a long name or of pax records; Go's reader, thus Docker, has the same bound
LARGEST_OWNER = (1 << 32) - 2  # the one above means "unchanged" to chown(2)
NO_HEADER = "archive/tar: invalid tar header"  # clients know these words
LARGEST_TIME = 1 << 40  # seconds

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"

_HEADER = Struct("100s24s12s12s8sB100s8s64x8s8s155s12x")
_ZERO = bytes(BLOCK)
_LARGE = 1 << 18  # bytes of a file that are worth a way of their own
_AS_REGULAR = b"\x000\x007"  # pre-POSIX, regular, contiguous


class Source:
    """Bytes in chunks of any size, read in pieces of any size, copied only where a piece crosses chunks.

    pour: pour(fd, size) moves some of what is not in a chunk yet, at most size bytes, into a file; how many.
    """

    __slots__ = ("_chunks", "_end", "_position", "_pour", "_view")

    def __init__(self, chunks: Iterable[bytes], pour: Callable[[int, int], int] | None = None) -> None:
        self._chunks = iter(chunks)
        self._pour = pour
        self._view = memoryview(b"")
        self._position = 0
        self._end = 0

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._view = memoryview(chunk)
                self._position = 0
                self._end = len(chunk)
                return True
        return False

    def read(self, size: int) -> bytes:
        """Exactly size bytes, or fewer at the end."""
        start = self._position
        end = start + size
        if end <= self._end:
            self._position = end
            return bytes(self._view[start:end])
        return b"".join(self.pieces(size, whole=False))

    def pieces(self, size: int, *, whole: bool = True) -> Iterable[memoryview]:
        """Views that add up to size bytes; HostileArchive when the archive ends before, unless not whole."""
        start = self._position
        end = start + size
        if end <= self._end:
            self._position = end
            return (self._view[start:end],)
        return self._pieces(size, whole)

    def _pieces(self, size: int, whole: bool) -> Iterator[memoryview]:
        while size:
            available = self._end - self._position
            if not available:
                if not self._fill():
                    if whole:
                        raise HostileArchive("unexpected EOF")
                    return
                continue
            take = min(available, size)
            start = self._position
            self._position = start + take
            size -= take
            yield self._view[start : start + take]

    def into(self, fd: int, size: int) -> None:
        """Size bytes into a file; HostileArchive when the archive ends before."""
        here = min(size, self._end - self._position)
        write(fd, self._view[self._position : self._position + here])
        self._position += here
        size -= here
        if not size:
            return
        if self._pour is None or size < _LARGE:
            for piece in self.pieces(size):
                write(fd, piece)
            return
        while size:
            poured = self._pour(fd, size)
            if not poured:
                raise HostileArchive("unexpected EOF")
            size -= poured

    def skip(self, size: int) -> None:
        if self._position + size <= self._end:
            self._position += size
            return
        for _ in self._pieces(size, True):
            pass

    def took(self, path: bytes, size: int) -> None:
        """What was read last became the content of the file at path."""

    def drain(self) -> None:
        """To the end: whoever hashes the chunks wants to see them all."""
        self._position = self._end
        while self._fill():
            pass
        self._position = self._end


def write(fd: int, piece: memoryview) -> None:
    """All of it."""
    done = os.write(fd, piece)
    while done < len(piece):
        done += os.write(fd, piece[done:])


class Entry:
    """One entry, names as they stand in the archive. type: REGULAR … FIFO. mtime in ns. size: bytes of
    data.
    """

    __slots__ = ("device", "gid", "link", "mode", "mtime", "name", "size", "type", "uid", "xattrs")

    def __init__(
        self,
        type: int,
        name: bytes,
        link: bytes,
        mode: int,
        uid: int,
        gid: int,
        mtime: int,
        size: int,
        device: tuple[int, int],
        xattrs: list[tuple[bytes, bytes]],
    ) -> None:
        self.type = type
        self.name = name
        self.link = link
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.size = size
        self.device = device
        self.xattrs = xattrs


def entries(source: Source) -> Iterator[Entry]:
    """The entries. Whoever takes a REGULAR one with a size reads exactly that many bytes before the next."""
    everywhere: dict[bytes, bytes] = {}
    pax: dict[bytes, bytes] = {}
    long_name = long_link = None
    read = source.read
    while True:
        header = read(BLOCK)
        if not header or header == _ZERO:
            return  # as Docker and bsdtar: one zero block or the plain end will do
        if len(header) < BLOCK:
            raise HostileArchive("unexpected EOF")
        (name, owner, length, mtime, checksum, kind, link, magic, major, minor, prefix) = _HEADER.unpack(
            header
        )
        if _expected(checksum) != zlib.adler32(header) & 0xFFFF:
            _verify(header, checksum)
        size = number(length)
        if kind in b"xgLKXNVM":
            if kind in b"XNVM":
                raise HostileArchive(f"unsupported archive entry of type {chr(kind)!r}")
            if not 0 <= size <= LARGEST_HEADER:
                raise HostileArchive(
                    f"the archive holds a header of {size} bytes: expected at most {LARGEST_HEADER}"
                )
            body = read(size)
            if len(body) < size:
                raise HostileArchive("unexpected EOF")
            source.skip(-size % BLOCK)
            if kind == 120:
                pax = pax_records(body)
            elif kind == 103:
                everywhere = {k: v for k, v in {**everywhere, **pax_records(body)}.items() if v}
            elif kind == 76:
                long_name = body.partition(b"\0")[0]
            else:
                long_link = body.partition(b"\0")[0]
            continue
        if kind == 83:
            raise HostileArchive("the archive holds a sparse file, which is not supported")
        name = name.partition(b"\0")[0]
        if long_name is not None:
            name = long_name
        elif prefix[0] and magic == b"ustar\x0000":
            name = prefix.partition(b"\0")[0] + b"/" + name
        may_be_directory = kind in _AS_REGULAR and kind != 55
        if kind in _AS_REGULAR:
            kind = REGULAR
        elif not 49 <= kind <= 54:
            raise HostileArchive(f"unsupported archive entry of type {chr(kind)!r}: {show(name)}")
        mode, uid, gid = _owner(owner)
        entry = Entry(
            kind,
            name,
            link.partition(b"\0")[0] if long_link is None else long_link,
            mode,
            uid,
            gid,
            _seconds(mtime) * 1_000_000_000,
            size,
            (number(major), number(minor)) if kind in (CHARACTER, BLOCK_DEVICE) else (0, 0),
            [],
        )
        if pax or everywhere:
            _override(entry, {**everywhere, **pax} if everywhere else pax)
            pax = {}
        long_name = long_link = None
        # only now: some writers leave out of a header's name what is not ASCII, perhaps all of its last part
        if may_be_directory and entry.name.endswith(b"/"):
            kind = entry.type = DIRECTORY
        _check(entry)
        if kind == REGULAR:
            size = entry.size
            yield entry
            source.skip(-size % BLOCK)
        else:
            yield entry
            if kind not in (LINK, SYMLINK, DIRECTORY):
                source.skip(-(-entry.size // BLOCK) * BLOCK)
            elif kind == LINK and entry.size:
                raise HostileArchive(f"the archive holds a hard link with data: {show(entry.name)}")


def number(field: bytes) -> int:
    """The value of a header's number: octal with spaces and zero bytes around, or base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field[:-1]
    if not (digits.isdigit() and field[-1] in b"\0 "):  # as most write it
        digits = field.partition(b"\0")[0].strip()
    if not digits:
        return 0
    if not digits.isdigit():  # int() alone would take a sign and underscores
        raise HostileArchive(NO_HEADER)
    try:
        return int(digits, 8)
    except ValueError:
        raise HostileArchive(NO_HEADER) from None


# Most entries repeat the owner, the mode and the time of others.
_seconds = lru_cache(1024)(number)


@lru_cache(1024)
def _owner(fields: bytes) -> tuple[int, int, int]:
    """Mode, uid, gid."""
    return number(fields[:8]) & 0o7777, number(fields[8:16]), number(fields[16:])


def pax_records(body: bytes) -> dict[bytes, bytes]:
    """The records of an extended header; of equal keys the last one.

    records := {length " " key "=" value LF}      length: decimal, of the whole record
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 20)
        digits = body[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise HostileArchive("the archive holds a malformed pax header")
        end = at + int(digits)
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or end <= space + 1 or body[end - 1] != 10 or not equals or not key:
            raise HostileArchive("the archive holds a malformed pax header")
        records[key] = value
        at = end
    return records


@lru_cache(1024)
def _expected(field: bytes) -> int:
    """The lower half of a header's Adler-32, a sum modulo 65521 less one, if its checksum is right.

    The checksum is the sum of the bytes with its own field as spaces.
    """
    checksum = number(field)
    is_possible = 0 <= checksum <= 255 * BLOCK
    return (checksum - 8 * 32 + sum(field) + 1) % 65521 if is_possible else -1


def _verify(header: bytes, field: bytes) -> None:
    """HostileArchive, unless it is the checksum of an old writer."""
    blanked = header[:148] + b"        " + header[156:]
    expected = number(field)
    if (
        sum(blanked) - 256 * sum(byte > 127 for byte in blanked) != expected
    ):  # some old writers add signed bytes
        raise HostileArchive(NO_HEADER)


def _override(entry: Entry, records: dict[bytes, bytes]) -> None:
    """What the pax records say goes before what the header says."""
    for key, value in records.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.size = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime = _instant(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs.append((key[13:], value))
        elif key.startswith(b"LIBARCHIVE.xattr."):
            entry.xattrs.append((_unquoted(key[17:]), _base64(value)))
        elif key.startswith(b"GNU.sparse."):
            raise HostileArchive(
                f"the archive holds a sparse file, which is not supported: {show(entry.name)}"
            )


def _check(entry: Entry) -> None:
    if entry.size < 0:
        raise HostileArchive(f"the archive holds a file of {entry.size} bytes: {show(entry.name)}")
    if not (0 <= entry.uid <= LARGEST_OWNER and 0 <= entry.gid <= LARGEST_OWNER):
        raise HostileArchive(
            f"the archive holds an impossible owner {entry.uid}:{entry.gid}: {show(entry.name)}"
        )
    if abs(entry.mtime) > LARGEST_TIME * 1_000_000_000:
        raise HostileArchive(f"the archive holds an impossible time: {show(entry.name)}")
    major, minor = entry.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise HostileArchive(f"the archive holds an impossible device {major}:{minor}: {show(entry.name)}")


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise HostileArchive(f"the archive holds a malformed number in a pax header: {value[:40]!r}")
    return int(value)


def _instant(value: bytes) -> int:
    """Nanoseconds of `[-]seconds[.fraction]`."""
    whole, _, fraction = value.partition(b".")
    magnitude = _decimal(whole.removeprefix(b"-")) * 1_000_000_000
    if fraction:
        magnitude += _decimal((fraction + b"000000000")[:9])
    return -magnitude if whole.startswith(b"-") else magnitude


def _unquoted(name: bytes) -> bytes:
    head, *rest = name.split(b"%")
    try:
        return head + b"".join(binascii.unhexlify(part[:2]) + part[2:] for part in rest)
    except binascii.Error:
        raise HostileArchive("the archive holds a malformed pax header") from None


def _base64(value: bytes) -> bytes:
    try:
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        raise HostileArchive("the archive holds a malformed pax header") from None
