"""json-file records: what goes in comes out, however it is cut."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from skiff.runtime.monitor.logs import LINE_LIMIT, JsonFile, NoLog, open_log
from skiff.runtime.protocol import LogConfig


def read(path: Path) -> list[dict[str, object]]:
    return [json.decode(line) for line in path.read_bytes().splitlines()]


@given(st.lists(st.binary(max_size=60) | st.just(b"x" * 20000) | st.just(b"plain\n"), max_size=8))
def test_no_byte_is_lost(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = JsonFile(LogConfig(path=str(path)))
    for chunk in chunks:
        log.write("stdout", chunk)
    log.close()
    records = read(path)
    assert all(set(r) == {"log", "stream", "time"} for r in records)
    texts = [str(r["log"]) for r in records]
    assert all(len(text.rstrip("\n").encode()) <= LINE_LIMIT * 3 for text in texts)
    whole = b"".join(chunks)
    if whole.isascii():
        assert "".join(texts).encode() == whole
        assert all(text.count("\n") <= 1 and "\n" not in text[:-1] for text in texts)


def test_the_shape_of_a_record(tmp_path: Path) -> None:
    log = JsonFile(LogConfig(path=str(tmp_path / "log"), attributes={"a": "b"}))
    log.write("stderr", b'say "hi"\n\xff\n')
    log.close()
    first, second = (tmp_path / "log").read_bytes().splitlines()
    assert first.startswith(b'{"log":"say \\"hi\\"\\n","stream":"stderr","attrs":{"a":"b"},"time":"20')
    assert json.decode(second)["log"] == "\ufffd\n"
    assert os.stat(tmp_path / "log").st_mode & 0o777 == 0o640


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonFile(LogConfig(path=str(path), max_size=1000, max_file=3, compress=True))
    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz"]
    assert path.stat().st_size <= 1000
    kept = gzip.decompress((tmp_path / "log.2.gz").read_bytes()) + gzip.decompress(
        (tmp_path / "log.1.gz").read_bytes()
    )
    numbers = [json.decode(line)["log"] for line in (kept + path.read_bytes()).splitlines()]
    assert numbers == [f"line {n}\n" for n in range(100 - len(numbers), 100)]


def test_drivers() -> None:
    assert isinstance(open_log(LogConfig(driver="none")), NoLog)
    with pytest.raises(ValueError, match="unknown log driver"):
        open_log(LogConfig(driver="syslog"))
