"""Copies into and out of trees that somebody else writes in."""

import errno
import os
import stat
from pathlib import Path

import pytest

from skiff.engine.storage.copying import copy_content, copy_tree
from skiff.engine.storage.state import SqliteState


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"from the image")
    return top


@pytest.mark.parametrize("place", ["sub", "sub/file"])
def test_a_link_in_the_way_is_not_followed(source: Path, tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    target = tmp_path / "target"
    (target / place).parent.mkdir(parents=True, exist_ok=True)
    (target / place).symlink_to(outside / "file" if place.endswith("file") else outside)
    with pytest.raises(FileExistsError):
        copy_content(str(source), str(target))
    assert (outside / "file").read_bytes() == b"precious"
    assert stat.S_IMODE(outside.stat().st_mode) != 0o700


def test_a_directory_that_became_a_link_is_not_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was a directory when looked at is a link when opened."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "shadow").touch()
    look = os.stat

    def swap(name: str, **options: int) -> os.stat_result:
        found = look(name, **options)  # type: ignore[arg-type]
        if name == "sub":
            (source / "sub").rename(source / "away")
            (source / "sub").symlink_to(tmp_path / "secrets")
        return found

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(NotADirectoryError):
        copy_tree(str(source), str(tmp_path / "copy"))
    assert not list((tmp_path / "copy").rglob("shadow"))


def test_names_of_one_file_stay_one(source: Path, tmp_path: Path) -> None:
    os.link(source / "sub" / "file", source / "again")
    copy_tree(str(source), str(tmp_path / "copy"))
    (tmp_path / "filled").mkdir()
    copy_content(str(source), str(tmp_path / "filled"))
    for target in (tmp_path / "copy", tmp_path / "filled"):
        assert (target / "again").stat().st_ino == (target / "sub/file").stat().st_ino
        assert (target / "again").read_bytes() == b"from the image"


def test_whoever_swaps_a_name_gets_no_other_file_linked(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(source / "sub" / "file", source / "sub" / "again")
    (tmp_path / "shadow").write_text("secret")
    target = tmp_path / "filled"
    target.mkdir()
    link = os.link

    def swap(*names: str, **options: int) -> None:
        (made,) = (target / "sub").iterdir()
        made.unlink()
        made.symlink_to(tmp_path / "shadow")
        link(*names, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", swap)
    copy_content(str(source), str(target))
    assert (tmp_path / "shadow").stat().st_nlink == 1
    files = [path for path in (target / "sub").iterdir() if not path.is_symlink()]
    assert [path.read_bytes() for path in files] == [b"from the image"]


def test_where_there_are_no_links_names_become_files(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(source / "sub" / "file", source / "again")
    (tmp_path / "filled").mkdir()

    def refused(*names: str, **options: int) -> None:
        raise PermissionError(errno.EPERM, "a file system without links")

    monkeypatch.setattr(os, "link", refused)
    copy_content(str(source), str(tmp_path / "filled"))
    assert (tmp_path / "filled/again").read_bytes() == b"from the image"


def test_the_state_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(0o644)
    state = SqliteState(str(path))
    state.table("thing", dict).put("x", {})
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    state.close()
    assert set(modes.values()) == {0o600}
    assert len(modes) == 4  # with its reserve
