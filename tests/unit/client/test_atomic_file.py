"""Files that appear whole, and what is told when they cannot."""

import errno
import os
import posix
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.cli.image_archive import write_stream
from skiff.client import atomic_file
from skiff.errors import InvalidParameter


def _full(first: bytes = b"first") -> Iterator[bytes]:
    yield first
    raise OSError(errno.ENOSPC, "No space left on device")


def _read_only(path: str) -> None:
    raise OSError(errno.EROFS, "Read-only file system", path)


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")

    def pieces() -> Iterator[bytes]:
        yield b"one"
        assert path.read_bytes() == b"before"
        yield b"two"

    atomic_file.write(str(path), pieces())
    assert path.read_bytes() == b"onetwo"
    assert os.listdir(tmp_path) == ["f"]


def test_nothing_is_left_of_half_a_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        atomic_file.write(f"{tmp_path}/f", _full())
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_file.write(f"{tmp_path}/folder", [b"x"])
    assert os.listdir(tmp_path) == ["folder"]


def test_the_cause_is_told_when_the_part_cannot_go_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix, "unlink", _read_only)
    with pytest.raises(OSError, match="No space left"):
        atomic_file.write(f"{tmp_path}/f", _full())
    with pytest.raises(
        InvalidParameter, match=rf"^failed to save image: No space left on device: {tmp_path}/f$"
    ):
        write_stream(_full(), f"{tmp_path}/f", "failed to save image", doing="Saving")


def test_a_file_that_cannot_be_begun_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "unlink", _read_only)
    path = f"{tmp_path}/" + "n" * 255  # a name of its part would be too long
    with pytest.raises(OSError, match="File name too long"):
        atomic_file.write(path, [])
    with pytest.raises(InvalidParameter, match=r"^failed to save image: File name too long: "):
        write_stream(iter(()), path, "failed to save image", doing="Saving")
