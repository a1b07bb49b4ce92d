"""Deleting what others filled."""

import errno
import os
from pathlib import Path

import pytest

from skiff.linux import mounts, namespaces, trees


def nest(path: Path, depth: int) -> None:
    """Directories deeper than any path can be long."""
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("directory", dir_fd=fd)
        below = os.open("directory", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(fd)
        fd = below
    os.close(fd)


def test_any_depth(tmp_path: Path) -> None:
    nest(tmp_path / "deep", 3000)
    trees.remove(str(tmp_path / "deep"))
    assert not (tmp_path / "deep").exists()


def test_links_are_deleted_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "tree" / "a" / "b" / "link").symlink_to(tmp_path / "outside")
    trees.remove(str(tmp_path / "tree"))
    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "precious"]


def test_a_top_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(NotADirectoryError):
        trees.remove(str(tmp_path / "link"))
    assert (tmp_path / "outside").exists()


@pytest.mark.parametrize("where", ["tree", "tree/a"])
def test_what_is_filled_meanwhile_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "tree" / "a").mkdir(parents=True)
    rmdir, late = os.rmdir, [tmp_path / where / "late"]

    def interrupted(path: str, *, dir_fd: int | None = None) -> None:
        if late and os.path.basename(path) == os.path.basename(where):
            late.pop().touch()
        rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", interrupted)
    trees.remove(str(tmp_path / "tree"))
    assert not late
    assert not (tmp_path / "tree").exists()


def test_files_of_a_tree(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "a" / "b" / "two").write_bytes(b"22")
    (tmp_path / "a" / "loop").symlink_to("..")
    assert sorted(file.st_size for file in trees.files(str(tmp_path))) == [1, 2, 2]


def test_what_is_gone_is_no_error(tmp_path: Path) -> None:
    trees.remove(str(tmp_path / "nothing"))


@pytest.mark.root
def test_what_is_mounted_below_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            namespaces.unshare(namespaces.CLONE_NEWNS)
            mounts.set_propagation("/", mounts.MS_PRIVATE | mounts.MS_REC)
            bind = str(tmp_path / "tree" / "a" / "b")
            mounts.mount(str(tmp_path / "precious"), bind, None, mounts.MS_BIND)
            trees.remove(str(tmp_path / "tree"))
        except OSError as error:
            code = 0 if error.errno in (errno.EXDEV, errno.EBUSY) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "precious" / "file").exists()
