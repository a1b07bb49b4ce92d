"""HTTP's chunks from a descriptor: whole, cut anywhere, malformed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.storage.chunks import NOTHING, Chunks, peek
from skiff.errors import HostileArchive

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


def _framed(pieces: list[bytes]) -> bytes:
    return (
        b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: 1\r\n\r\n"
    )


@contextmanager
def _behind_a_pipe(data: bytes) -> Iterator[int]:
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()


def _all(chunks: Chunks, size: int) -> bytes:
    found = b""
    while piece := chunks.read(size):
        assert len(piece) <= size
        found += piece
    return found


@given(BODIES, st.integers(0, 3000), st.integers(1, 400))
def test_what_was_sent_arrives_wherever_it_was_cut(pieces: list[bytes], cut: int, size: int) -> None:
    data = _framed(pieces)
    with _behind_a_pipe(data[cut:]) as fd:
        chunks = Chunks(fd, data[:cut])
        assert _all(chunks, size) == b"".join(pieces)
        assert chunks.ended
        assert chunks.drain()


@given(BODIES, st.integers(1, 2000))
def test_a_body_that_is_cut_is_no_body(pieces: list[bytes], less: int) -> None:
    data = _framed(pieces)[: -min(less, len(_framed(pieces)))]
    chunks = Chunks(NOTHING, data)
    with pytest.raises(HostileArchive, match="unexpected EOF"):
        _all(chunks, 100)
    assert not chunks.drain()


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    chunks = Chunks(NOTHING, data)
    try:
        _all(chunks, 64)
    except HostileArchive:
        assert not chunks.ended


@pytest.mark.parametrize(
    "data", [b"\r\n", b"-1\r\nx", b"1_0\r\n", b"g\r\n", b"1\r\nxx\r\n", b"f" * 16 + b"\r\n", b"1" * 5000]
)
def test_malformed_sizes(data: bytes) -> None:
    with pytest.raises(HostileArchive):
        _all(Chunks(NOTHING, data), 64)


def test_what_follows_the_body_is_noticed() -> None:
    chunks = Chunks(NOTHING, _framed([b"a"]) + b"GET / HTTP/1.1\r\n")
    assert _all(chunks, 9) == b"a"
    assert not chunks.drain()


@given(BODIES, st.integers(0, 3000), st.integers(1, 400))
def test_what_was_sent_can_be_poured_into_a_file(pieces: list[bytes], cut: int, size: int) -> None:
    data = _framed(pieces)
    file = os.memfd_create("poured")
    try:
        with _behind_a_pipe(data[cut:]) as fd:
            chunks = Chunks(fd, data[:cut])
            while poured := chunks.pour(file, size):
                assert poured <= size
            assert chunks.drain()
        assert os.pread(file, 10_000, 0) == b"".join(pieces)
    finally:
        os.close(file)


def test_what_finds_no_room_is_read_all_the_same() -> None:
    data = _framed([b"a" * 200_000, b"b" * 200_000])
    with _behind_a_pipe(data[10:]) as fd, open("/dev/full", "wb", buffering=0) as full:
        chunks = Chunks(fd, data[:10])
        with pytest.raises(OSError, match="No space left"):
            while chunks.pour(full.fileno(), 300_000):
                pass
        assert chunks.drain()


def test_a_body_that_is_cut_cannot_be_poured() -> None:
    with _behind_a_pipe(b"9\r\nabc") as fd, open(os.devnull, "wb") as file:
        chunks = Chunks(fd, b"")
        with pytest.raises(HostileArchive, match="unexpected EOF"):
            for _ in range(3):
                chunks.pour(file.fileno(), 9)
        chunks.close()


def test_a_look_at_the_beginning() -> None:
    data = _framed([b"ab", b"cd"])
    assert peek(data, 3) == b"abc"
    assert peek(data, 99) == b"abcd"
    assert peek(data[:8], 3) is None
