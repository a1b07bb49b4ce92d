"""Tar headers, written: ustar where it is enough, a pax header before it where it is not. Pure.

The same values give the same bytes. POSIX pax(1) § ustar Interchange Format.
"""

import zlib

from skiff.engine.storage.tarstream import BLOCK

END = bytes(2 * BLOCK)
_MAGIC = b"ustar\x0000"
_NO_NAMES = bytes(64)  # of the owner and of the group
_NO_DEVICE = b"0000000\0" * 2
_NO_PREFIX = bytes(167)
_LARGEST_ID = 0o7777777
_LARGEST_SIZE = 0o77777777777


def header(
    kind: bytes,
    name: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    mtime_ns: int = 0,
    size: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: tuple[tuple[bytes, bytes], ...] = (),
    exact_time: bool = False,
) -> bytes:
    """The header blocks of an entry. kind: its type flag; exact_time: keep the fraction of mtime's second."""
    records: dict[bytes, bytes] = {}
    if len(name) > 100 or not name.isascii():
        records[b"path"] = name
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"] = link
    if size > _LARGEST_SIZE:
        records[b"size"] = b"%d" % size
    if uid > _LARGEST_ID:
        records[b"uid"] = b"%d" % uid
    if gid > _LARGEST_ID:
        records[b"gid"] = b"%d" % gid
    seconds, fraction = divmod(mtime_ns, 1_000_000_000)
    if (exact_time and fraction) or not 0 <= seconds <= _LARGEST_SIZE:
        records[b"mtime"] = _instant(mtime_ns if exact_time else seconds * 1_000_000_000)
    for key, value in xattrs:
        records[b"SCHILY.xattr." + key] = value
    block = _block(
        kind,
        name,
        mode,
        uid if uid <= _LARGEST_ID else 0,
        gid if gid <= _LARGEST_ID else 0,
        size if size <= _LARGEST_SIZE else 0,
        seconds if 0 <= seconds <= _LARGEST_SIZE else 0,
        link,
        device,
    )
    return _pax(name, records) + block if records else block


def padding(size: int) -> bytes:
    """What follows size bytes of data."""
    return bytes(-size % BLOCK)


def _pax(name: bytes, records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    title = b"PaxHeaders.0/" + name.rpartition(b"/")[2][:80]
    return _block(b"x", title, 0o644, 0, 0, len(body), 0, b"", (0, 0)) + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """Its own length is part of the length."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _instant(ns: int) -> bytes:
    sign = "-" if ns < 0 else ""
    seconds, fraction = divmod(abs(ns), 1_000_000_000)
    digits = f".{fraction:09}".rstrip("0").rstrip(".")
    return f"{sign}{seconds}{digits}".encode()


def _block(
    kind: bytes,
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    block = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%b%b%b%b%b" % (
        name[:100].ljust(100, b"\0"),
        mode & 0o7777,
        uid,
        gid,
        size,
        mtime,
        kind,
        link[:100].ljust(100, b"\0"),
        _MAGIC,
        _NO_NAMES,
        b"%07o\0%07o\0" % device if any(device) else _NO_DEVICE,
        _NO_PREFIX,
    )
    return b"%b%06o\0 %b" % (block[:148], _sum(block), block[156:])


def _sum(block: bytes) -> int:
    """Of its bytes. In ASCII it is below 65521, so it is the lower half of their Adler-32, less one."""
    return (zlib.adler32(block) - 1) & 0xFFFF if block.isascii() else sum(block)
