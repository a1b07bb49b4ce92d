"""Trees to archives and back, and archives that mean harm."""

import _socket
import io
import os
import posix
import socket
import struct
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.client import tarball
from skiff.client.bulk import FilePart
from skiff.errors import SkiffError


class Arrived(io.BytesIO):
    """A body that is here already, in pieces as a socket might give them."""

    def take(self) -> bytes:
        return self.read(100_000)

    def pour(self, fd: int, size: int) -> None:
        data = self.read(size)
        assert len(data) == size > 0
        assert os.write(fd, data) == size


def _tree(root: Path) -> Path:
    (root / "d/sub").mkdir(parents=True)
    (root / "d/f").write_bytes(b"x" * 3_000_000)
    (root / "d/sub" / ("long" * 40)).write_text("1")
    (root / "d/l").symlink_to("f")
    os.link(root / "d/f", root / "d/hard")
    (root / "d/f").chmod(0o741)
    os.utime(root / "d/sub", (5, 5))
    return root / "d"


def _sent(pieces: Iterator[bytes | FilePart]) -> bytes:
    """What arrives behind a plain socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        arrived = pool.submit(theirs.makefile("rb").read)
        raw = _socket.socket(fileno=os.dup(ours.fileno()))
        for piece in pieces:
            if isinstance(piece, FilePart):
                piece.send(raw)
            else:
                raw.sendall(piece)
        raw.close()
        ours.shutdown(socket.SHUT_WR)
        return arrived.result()


def test_a_tree_survives(tmp_path: Path) -> None:
    tree = _tree(tmp_path)
    archive = _sent(tarball.packed(os.fsencode(tree), b"top"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        assert {"top", "top/f", "top/sub", "top/sub/" + "long" * 40} <= set(read.getnames())
    (tmp_path / "out").mkdir()
    tarball.unpack(Arrived(archive), os.fsencode(tmp_path / "out"), b"top", b"new", owners=False)
    new = tmp_path / "out/new"
    assert (new / "f").read_bytes() == (tree / "f").read_bytes()
    assert os.readlink(new / "l") == "f"
    assert os.stat(new / "hard").st_ino == os.stat(new / "f").st_ino
    assert os.stat(new / "f").st_mode & 0o777 == 0o741
    assert os.stat(new / "sub").st_mtime == 5


def test_a_default_acl_has_no_say_in_modes(tmp_path: Path) -> None:
    everyone = 0xFFFFFFFF
    entries = ((1, 7, everyone), (4, 5, everyone), (0x20, 0, everyone))  # user, group, others
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    tree = tmp_path / "tree"
    for folder in ("", "plain", "strict"):
        (tree / folder).mkdir()
        (tree / folder / "f").write_text("1")
        (tree / folder / "f").chmod(0o666)
    archive = _sent(tarball.packed(os.fsencode(tree), b"top"))
    (tmp_path / "out/top/strict").mkdir(parents=True)
    try:
        os.setxattr(tmp_path / "out/top/strict", "system.posix_acl_default", acl)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error}")
    tarball.unpack(Arrived(archive), os.fsencode(tmp_path / "out"), b"top", b"top", owners=False)
    for folder in ("", "plain", "strict"):
        assert (tmp_path / "out/top" / folder / "f").stat().st_mode & 0o777 == 0o666


def _archive(*members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"evil"))
    return buffer.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


def test_a_file_that_becomes_a_pipe_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    look = posix.lstat

    def swap(path: bytes) -> os.stat_result:
        found = look(path)
        file.unlink()
        os.mkfifo(file)
        return found

    monkeypatch.setattr(posix, "lstat", swap)
    with pytest.raises(SkiffError, match="became something else"):
        list(tarball.packed(os.fsencode(file), b"top"))


@pytest.mark.parametrize(
    "members",
    [
        [_member("../evil")],
        [_member("t/../../evil")],
        [_member("t", tarfile.SYMTYPE, ".."), _member("t/evil")],
        [_member("t", tarfile.SYMTYPE, "/tmp"), _member("t/evil")],
        [_member("t", tarfile.LNKTYPE, "../secret"), _member("t")],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "in").mkdir()
    with pytest.raises((SkiffError, OSError)):
        tarball.unpack(Arrived(_archive(*members)), os.fsencode(tmp_path / "in"), b"t", b"t", owners=False)
    assert sorted(os.listdir(tmp_path)) == ["in", "secret"]
    assert (tmp_path / "secret").read_text() == "mine"


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/t").symlink_to("../secret")
    tarball.unpack(Arrived(_archive(_member("t"))), os.fsencode(tmp_path / "in"), b"t", b"t", owners=False)
    assert (tmp_path / "secret").read_text() == "mine"
    assert (tmp_path / "in/t").read_text() == "evil"


@given(st.binary(max_size=1500))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(SkiffError):
        for _ in tarball.entries(tarball.Reader(Arrived(b"a" + data))):
            pass


@pytest.mark.parametrize(
    ("title", "old", "new", "expected"),
    [
        (b"a/b", b"a", b"c", b"c/b"),
        (b"a/", b"a", b"c", b"c"),
        (b"a/b", b"a", b"", b"b"),
        (b"./b", b"", b"c", b"c/b"),
        (b"./", b"", b"c", b"c"),
        (b"/bin", b"", b"", b"bin"),
        (b"ab/b", b"a", b"c", b"ab/b"),
    ],
)
def test_the_top_is_renamed(title: bytes, old: bytes, new: bytes, expected: bytes) -> None:
    assert tarball.renamed(title, old, new) == expected
