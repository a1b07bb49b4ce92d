"""Paths that cannot leave their root, whatever lies in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skiff.linux import safepath


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "outside").write_text("secret")
    inside = tmp_path / "root"
    (inside / "dir").mkdir(parents=True)
    (inside / "file").write_text("mine")
    (inside / "up").symlink_to("../outside")
    (inside / "absolute").symlink_to(str(tmp_path / "outside"))
    (inside / "home").symlink_to("/dir")
    (inside / "loop").symlink_to("loop")
    (inside / "dangling").symlink_to("/made/here")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("path", ["../outside", "/../../outside", "up", "absolute", "dir/../../outside"])
def test_what_is_outside_is_not_found(root: int, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        safepath.open_in_root(root, path)


def test_absolute_links_are_meant_from_the_root(root: int) -> None:
    fd = safepath.make_directories(root, "/home/new/deep")
    os.close(fd)
    assert os.path.isdir(f"{safepath.fd_path(root)}/dir/new/deep")


def test_directories_are_made_where_a_dangling_link_points_inside(root: int, tmp_path: Path) -> None:
    os.close(safepath.make_directories(root, "/dangling/x"))
    assert (tmp_path / "root/made/here/x").is_dir()
    assert not Path("/made").exists()


def test_a_file_in_the_way(root: int) -> None:
    with pytest.raises(NotADirectoryError):
        safepath.make_directories(root, "/file/x")
    with pytest.raises(OSError):
        safepath.make_directories(root, "/loop/x")


def test_mount_points_are_files_or_directories(root: int, tmp_path: Path) -> None:
    os.close(safepath.make_mount_point(root, "/etc/hosts", directory=False))
    os.close(safepath.make_mount_point(root, "/srv/data", directory=True))
    assert (tmp_path / "root/etc/hosts").is_file()
    assert (tmp_path / "root/srv/data").is_dir()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["..", ".", "dir", "up", "home", "absolute", "new", "file", "dangling", ""]),
        max_size=7,
    )
)
def test_nothing_is_ever_made_outside(root: int, tmp_path: Path, parts: list[str]) -> None:
    try:
        os.close(safepath.make_directories(root, "/".join(parts)))
    except OSError:
        pass
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]
    assert (tmp_path / "outside").read_text() == "secret"
