from hypothesis import given
from hypothesis import strategies as st

from skiff.docker import jsonlog, stdcopy


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))), st.integers(0, 7))
def test_frames_come_back(frames: list[tuple[int, bytes]], cut: int) -> None:
    data = b"".join(stdcopy.frame(stream, payload) for stream, payload in frames)
    found, used = stdcopy.split(data + b"\x01\0\0\0\0\0\0\xff"[:cut])
    assert (found, used) == (frames, len(data))


@given(st.binary(max_size=80), st.integers(0, 2**62))
def test_log_records_come_back(line: bytes, at: int) -> None:
    record = jsonlog.decode(jsonlog.encode("stderr", line, at))
    assert record.log == line.decode("utf-8", "replace")
    assert (record.stream, record.time_ns) == ("stderr", at)
