"""What a container has for the engine's sake, and what counts as a change of its user's."""

import os
import stat
from pathlib import Path

import pytest

from skiff.engine.containers.ground import Change, changes, lay, unchanged_ground


def _make(root: Path, *paths: str) -> str:
    for path in paths:
        where = root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/"):
            where.mkdir(exist_ok=True)
        else:
            where.write_text(path)
    return str(root)


def test_what_the_engine_made_is_no_change(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd", "bin/sh")
    upper = _make(tmp_path / "upper", "dev/", "etc/")
    (tmp_path / "upper/etc/hosts").touch()
    (tmp_path / "upper/etc/resolv.conf").touch()
    assert changes(upper, [lower]) == []
    assert {"/dev", "/etc", "/etc/hosts"} <= unchanged_ground(upper, [lower])


def test_a_file_beside_them_is_one_and_so_is_its_directory(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd")
    upper = _make(tmp_path / "upper", "etc/mine", "new/f")
    (tmp_path / "upper/etc/hosts").touch()
    assert changes(upper, [lower]) == [
        *(Change("/etc", 0), Change("/etc/mine", 1), Change("/new", 1), Change("/new/f", 1))
    ]
    assert "/etc" not in unchanged_ground(upper, [lower])


def test_another_mode_of_theirs_is_one(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd")
    upper = _make(tmp_path / "upper", "etc/")
    (tmp_path / "upper/etc").chmod(0o700)
    assert changes(upper, [lower]) == [Change("/etc", 0)]


def _laid(tmp_path: Path, *lowers: str) -> tuple[Path, list[str]]:
    upper = tmp_path / "upper"
    upper.mkdir()
    lay(str(upper), lowers)
    return upper, list(lowers)


def test_programs_find_the_mounts_and_nobody_has_changed_anything(tmp_path: Path) -> None:
    lower = _make(tmp_path / "lower", "etc/passwd")
    (tmp_path / "lower/etc").chmod(0o711)
    upper, lowers = _laid(tmp_path, lower)
    assert (upper / ".dockerenv").exists()
    assert os.readlink(upper / "etc/mtab") == "/proc/mounts"
    assert stat.S_IMODE((upper / "etc").stat().st_mode) == 0o711
    assert changes(str(upper), lowers) == []
    assert {"/.dockerenv", "/etc", "/etc/mtab"} <= unchanged_ground(str(upper), lowers)
    (upper / "etc/mtab").unlink()
    (upper / "etc/mtab").symlink_to("/elsewhere")
    assert [change.path for change in changes(str(upper), lowers)] == ["/etc", "/etc/mtab"]


def test_an_image_without_anything_gets_them_too(tmp_path: Path) -> None:
    upper, lowers = _laid(tmp_path, _make(tmp_path / "lower", "app"))
    assert os.readlink(upper / "etc/mtab") == "/proc/mounts"
    assert changes(str(upper), lowers) == []


@pytest.mark.parametrize("etc", ["a file", "a link", "mtab is a file", "mtab is a link to nothing"])
def test_what_the_image_has_stays(tmp_path: Path, etc: str) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    if etc == "a file":
        (lower / "etc").touch()
    elif etc == "a link":
        (lower / "etc").symlink_to("/tmp")
    else:
        (lower / "etc").mkdir()
        if etc.endswith("file"):
            (lower / "etc/mtab").write_text("mine")
        else:
            (lower / "etc/mtab").symlink_to("/nowhere")
    upper, _ = _laid(tmp_path, str(lower))
    assert [path.name for path in upper.iterdir()] == [".dockerenv"]
