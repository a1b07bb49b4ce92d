import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.storage import compression
from skiff.errors import HostileArchive

DATA = b"some bytes " * 200_000
WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": lambda data: bytes(zstd.compress(data)),
    "bzip2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
}


def plain(data: bytes) -> bytes:
    return b"".join(compression.decompressed(io.BytesIO(data).read))


@pytest.mark.parametrize("kind", WRITERS)
def test_each_kind_is_told_and_read(kind: str) -> None:
    data = WRITERS[kind](DATA)
    assert compression.detect(data[:16]) == kind
    assert plain(data) == DATA
    if kind != "none":
        assert plain(data + data) == DATA * 2
        assert plain(data + bytes(1000)) == DATA
        for broken in (
            data[:-1],
            data[: len(data) // 2],
            data + b"junk",
            data[:20] + b"\xff" * 30 + data[50:],
        ):
            with pytest.raises(HostileArchive):
                plain(broken)


@pytest.mark.parametrize("kind", WRITERS)
def test_chunks_stay_small(kind: str) -> None:
    data = WRITERS[kind](bytes(50_000_000))
    sizes = [len(chunk) for chunk in compression.decompressed(io.BytesIO(data).read)]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= compression.PIECE


def test_nothing() -> None:
    assert plain(b"") == b""


def test_gzip_is_deterministic_and_readable() -> None:
    chunks = [DATA[at : at + 10_000] for at in range(0, len(DATA), 10_000)]
    once = b"".join(compression.gzipped(chunks))
    assert once == b"".join(compression.gzipped(chunks))
    assert zlib.decompress(once, 31) == DATA


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"]),
)
def test_any_bytes_are_read_or_refused(data: bytes, magic: bytes) -> None:
    try:
        plain(magic + data)
    except HostileArchive:
        pass


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-1], "ends too early"),
        (lambda data: data[:-8] + b"\1\2\3\4" + data[-4:], "is damaged"),  # the checksum
        (lambda data: data[:-4] + b"\1\2\3\4", "is damaged"),  # the length
        (lambda data: data + b"x", "is followed by something else"),
    ],
)
def test_a_spoilt_gzip_stream(spoil: Callable[[bytes], bytes], said: str) -> None:
    whole = gzip.compress(b"layer" * 100_000)
    with pytest.raises(HostileArchive, match=said):
        b"".join(compression.decompressed(io.BytesIO(spoil(whole)).read))
