"""Tar headers, written: ustar where it is enough, a pax header before it where it is not. Pure.

The same values give the same bytes. POSIX pax(1) § ustar Interchange Format.
"""

from struct import Struct

from skiff.engine.storage.tarstream import BLOCK

END = bytes(2 * BLOCK)
_HEADER = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
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
    block = _HEADER.pack(
        name[:100],
        b"%07o\0" % (mode & 0o7777),
        b"%07o\0" % uid,
        b"%07o\0" % gid,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b"        ",
        kind,
        link[:100],
        b"ustar\x0000",
        b"",
        b"",
        b"%07o\0" % device[0],
        b"%07o\0" % device[1],
        b"",
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
