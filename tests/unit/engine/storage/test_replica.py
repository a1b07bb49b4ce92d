"""Layers copied while their tar is packed: what comes out is the same tree, and its tar the same bytes."""

import os
import stat
import struct
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.engine.storage.test_diff import described, grow

from skiff.engine.storage import diff
from skiff.engine.storage.copying import copy_tree
from skiff.engine.storage.replica import Replica

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # net_bind_service; capabilities(7)


def copied(source: Path, target: Path, lowers: tuple[Path, ...] = ()) -> bytes:
    target.mkdir()
    with closing(Replica(str(target))) as replica:
        tar = b"".join(diff.upper_layer(str(source), list(map(str, lowers)), replica=replica))
        replica.finish()
    return tar


def test_some_of_everything(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    grow(source)
    (source / "large").write_bytes(os.urandom(1 << 20))
    tar = copied(source, tmp_path / "copy")
    assert described(tmp_path / "copy") == described(source)
    assert tar == b"".join(diff.upper_layer(str(tmp_path / "copy"), []))
    assert tar == b"".join(diff.upper_layer(str(source), []))


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "image", "wb") as file:
        file.truncate(64 << 20)
    copied(source, tmp_path / "copy")
    status = (tmp_path / "copy/image").stat()
    assert status.st_size == 64 << 20
    assert status.st_blocks * 512 < 1 << 20


def test_a_large_file_that_changes_meanwhile_is_the_same_in_both(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "log").write_bytes(b"a" * 1_000_000)
    (tmp_path / "copy").mkdir()
    with closing(Replica(str(tmp_path / "copy"))) as replica:
        chunks = diff.upper_layer(str(source), [], replica=replica)
        tar = next(chunks)
        (source / "log").write_bytes(b"b" * 10)
        tar += b"".join(chunks)
        replica.finish()
    assert tar == b"".join(diff.upper_layer(str(tmp_path / "copy"), []))


@pytest.mark.root
def test_what_only_root_can_make(tmp_path: Path) -> None:
    """Owners, identities and abilities; a whiteout and an opaque directory; a device."""
    source, lower = tmp_path / "source", tmp_path / "lower"
    for directory in (source, lower):
        (directory / "opaque").mkdir(parents=True)
    (lower / "opaque/old").touch()
    (lower / "gone").touch()
    os.setxattr(source / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(source / "opaque", "trusted.overlay.origin", b"of this host")
    os.mknod(source / "gone", stat.S_IFCHR, 0)
    os.mknod(source / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for name, size in (("small", 10), ("large", 1_000_000)):
        (source / name).write_bytes(b"x" * size)
        os.chown(source / name, 1000, 1001)
        (source / name).chmod(0o6755)
        os.setxattr(source / name, "security.capability", CAPABILITY)
    tar = copied(source, tmp_path / "copy", (lower,))
    os.removexattr(source / "opaque", "trusted.overlay.origin")
    assert described(tmp_path / "copy") == described(source)
    assert tar == b"".join(diff.upper_layer(str(tmp_path / "copy"), [str(lower)]))


@pytest.mark.root
def test_nothing_is_inherited_from_a_directory_that_passes_on_its_group(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "mail/inner").mkdir(parents=True)
    (source / "mail/inner/file").touch()
    (source / "mail/link").symlink_to("file")
    os.chown(source / "mail", 0, 8)
    (source / "mail").chmod(0o2775)
    tar = copied(source, tmp_path / "copy")
    assert described(tmp_path / "copy") == described(source)
    assert tar == b"".join(diff.upper_layer(str(tmp_path / "copy"), []))


def test_over_a_copy_of_what_is_below(tmp_path: Path) -> None:
    """Files, directories and links take each other's places; what is gone goes."""
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (old, new):
        place.mkdir()
        grow(place)
    for name in ("gone", "becomes a file", "stays"):
        (old / name / "deep").mkdir(parents=True)
        (old / name / "deep/file").write_text("old")
    (old / "becomes a directory").write_text("old")
    (old / "changes").write_text("old")
    (new / "becomes a file").write_text("new")
    (new / "becomes a directory").mkdir(mode=0o711)
    (new / "changes").symlink_to("elsewhere")
    (new / "stays/deep").mkdir(parents=True)
    (new / "stays/deep/file").write_text("new")
    wanted = described(new)
    diff.tree_upper(str(new), str(old), str(tmp_path / "upper"))
    copy_tree(str(old), str(tmp_path / "copy"))
    with closing(Replica(str(tmp_path / "copy"), over=True)) as replica:
        for _ in diff.upper_layer(str(tmp_path / "upper"), [str(old)], replica=replica):
            pass
        replica.finish()
    assert described(tmp_path / "copy") == wanted
