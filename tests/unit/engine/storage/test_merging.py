"""Stacked upper directories as one. Whiteouts need CAP_MKNOD only where a device is made: they are 0:0."""

import os
import stat
from pathlib import Path

from skiff.engine.storage.merging import merge


def tree(root: Path, **files: str) -> str:
    root.mkdir()
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return str(root)


def whiteout(path: str) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def test_the_upper_file_wins_and_nothing_is_copied(tmp_path: Path) -> None:
    lower = tree(tmp_path / "lower", a="1", d__x="x", d__y="y")
    upper = tree(tmp_path / "upper", a="2", d__y="z")
    target = tmp_path / "merged"
    merge([upper, lower], [], str(target))
    assert {str(p.relative_to(target)): p.read_text() for p in target.rglob("*") if p.is_file()} == {
        "a": "2",
        "d/x": "x",
        "d/y": "z",
    }
    assert os.stat(target / "a").st_ino == os.stat(f"{upper}/a").st_ino


def test_a_whiteout_stays_only_where_it_hides_something_below(tmp_path: Path) -> None:
    base = tree(tmp_path / "base", theirs="1")
    lower = tree(tmp_path / "lower", ours="1")
    upper = tree(tmp_path / "upper")
    whiteout(f"{upper}/ours")
    whiteout(f"{upper}/theirs")
    target = tmp_path / "merged"
    merge([upper, lower], [base], str(target))
    assert os.listdir(target) == ["theirs"]
    assert stat.S_ISCHR(os.lstat(target / "theirs").st_mode)


def test_a_file_in_the_place_of_a_directory(tmp_path: Path) -> None:
    lower = tree(tmp_path / "lower", d__x="x")
    upper = tree(tmp_path / "upper", d="file")
    target = tmp_path / "merged"
    merge([upper, lower], [], str(target))
    assert (target / "d").read_text() == "file"
