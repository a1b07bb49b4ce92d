"""client/streams.py: frames, cut anywhere, come out on the right descriptor."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.fake_engine import frame

from skiff.client.connection import BrokenReply
from skiff.client.streams import Demultiplexer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=8),
    st.integers(min_value=1, max_value=30),
)
def test_frames_cut_anywhere(tmp_path: Path, frames: list[tuple[int, bytes]], step: int) -> None:
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC) for name in ("out", "err")]
    demultiplexer = Demultiplexer(*fds)
    data = b"".join(frame(*one) for one in frames)
    for at in range(0, len(data), step):
        demultiplexer.feed(data[at : at + step])
    for number, name in ((1, "out"), (2, "err")):
        assert (tmp_path / name).read_bytes() == b"".join(text for stream, text in frames if stream == number)
    for fd in fds:
        os.close(fd)


def test_the_engines_own_error_is_raised() -> None:
    with pytest.raises(BrokenReply, match="disk full"):
        Demultiplexer(1, 2).feed(frame(3, b"disk full"))


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(BrokenReply, match="unrecognized stream"):
        Demultiplexer(1, 2).feed(b"HTTP/1.1")
