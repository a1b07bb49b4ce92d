"""Compressed streams: tell which, decompress as chunks, compress a layer. Memory stays bounded.

A chunk never exceeds PIECE bytes, so a small file that inflates to terabytes costs time, not memory.
"""

import bz2
import lzma
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from isal import igzip_lib, isal_zlib

from skiff.errors import HostileArchive

Compression = Literal["none", "gzip", "zstd", "bzip2", "xz"]

PIECE = 1 << 18  # still in the processor's cache when it is hashed and written
_READ = 1 << 16
_GZIP = 31  # window bits: 15, and 16 for the gzip wrapper
_LEVEL = 1  # isal's ratio hardly grows above; its speed falls

_ZSTD_LEVEL = 3  # its own default

_DAMAGED: Any = (isal_zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)

_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)


def detect(head: bytes) -> Compression:
    """Which compression a stream has, from its first bytes; "none" when unknown."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18":
        return "zstd"  # it begins with a skippable frame
    return "none"


def decompressed(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The plain bytes of what read(size) gives, in chunks. Raises HostileArchive for a damaged stream."""
    head = read(_READ)
    kind = detect(head)
    if kind == "none":
        return _all(head, read)
    return _inflated(head, read, _opener(kind), kind)


def plain(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """What read(size) gives, for a stream that is known not to be compressed."""
    return _all(read(_READ), read)


def prepare(kind: Compression) -> None:
    """Load what kind needs, for a process that is about to lose sight of its files."""
    if kind == "zstd":
        _zstd()


def gzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A gzip stream of chunks; the same bytes in give the same bytes out: the header holds no name and no
    time.
    """
    stream = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    for chunk in chunks:
        if out := stream.compress(chunk):
            yield out
    yield stream.flush()


def zstandard(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A zstd stream of chunks; the same bytes in give the same bytes out while the library is the same."""
    stream = _zstd().ZstdCompressor(level=_ZSTD_LEVEL)
    for chunk in chunks:
        if out := stream.compress(chunk):
            yield out
    yield stream.flush()


def _all(head: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    while head:
        yield head
        head = read(PIECE)


def _opener(kind: Compression) -> Callable[[], "_Inflater"]:
    if kind == "gzip":
        return lambda: _Inflater(igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))
    if kind == "bzip2":
        return lambda: _Inflater(bz2.BZ2Decompressor())
    if kind == "xz":
        return lambda: _Inflater(lzma.LZMADecompressor(memlimit=1 << 28))
    zstd = _zstd()
    return lambda: _Inflater(zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27}))


def _zstd() -> Any:
    # imported only when a layer needs it: it costs more than a small layer
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _inflated(
    data: bytes, read: Callable[[int], bytes], opener: Callable[[], "_Inflater"], kind: Compression
) -> Iterator[bytes]:
    """Streams may be concatenated; zero bytes after the last are padding."""
    inflater = opener()
    try:
        while True:
            if inflater.ended:
                data = (inflater.rest or read(_READ)).lstrip(b"\0")
                while not data:
                    data = read(_READ)
                    if not data:
                        return
                    data = data.lstrip(b"\0")
                if detect(data) != kind:
                    raise HostileArchive(f"the {kind} stream is followed by something else")
                inflater = opener()
            elif not data and inflater.wants_input:
                data = read(_READ)
                if not data:
                    raise HostileArchive(f"the {kind} stream ends too early")
            if out := inflater.inflate(data):
                yield out
            data = b""
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise HostileArchive(f"the {kind} stream is damaged: {error}") from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise HostileArchive(f"the {kind} stream is damaged: {error}") from error


class _Inflater:
    """A decompressor of one stream, in the manner of bz2.BZ2Decompressor."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.ended = False
        self.rest = b""
        self.wants_input = True

    def inflate(self, data: bytes) -> bytes:
        out: bytes = self._stream.decompress(data, PIECE)
        self.ended = self._stream.eof
        self.rest = self._stream.unused_data if self.ended else b""
        self.wants_input = self._stream.needs_input
        return out
