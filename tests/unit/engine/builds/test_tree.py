"""Looking into a tree that somebody else made."""

import os
from pathlib import Path

import pytest

from skiff.engine.builds.tree import seen
from skiff.errors import InvalidParameter


def test_what_is_read_whole_has_a_bound(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 40)
    with seen([str(tmp_path)]) as tree:
        assert tree.read("/small", 5) == b"12345"
        for name, most in (("/small", 4), ("/sparse", 1 << 20)):
            with pytest.raises(InvalidParameter, match=f"{name} is larger than {most} bytes"):
                tree.read(name, most)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("../../../../etc/passwd")
    with seen([str(tmp_path)]) as tree:
        assert [tree.read(name) for name in ("/pipe", "/out", "/up", "/none", "/")] == [b""] * 5
