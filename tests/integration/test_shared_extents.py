"""Branches where files can share blocks: a copy takes no space until one of the two is written to."""

import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import Engine

SIZE = 8 << 20  # of the file that is copied
IMAGE_SIZE = 600 << 20  # neither file system wants to be much smaller
FIEMAP = 0xC020660B  # FS_IOC_FIEMAP, linux/fiemap.h
SYNC, SHARED = 0x1, 0x2000
HEAD, EXTENT = struct.Struct("QQIIII"), struct.Struct("QQQ2QI3I")
MOST = 64


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path, busybox_archive: bytes) -> Iterator[Engine]:
    """An engine whose data lie on such a file system, in a file of its own."""
    kind = request.param
    with open("/proc/filesystems") as known:
        if kind not in known.read().split():
            pytest.skip(f"/proc/filesystems has no {kind}: this kernel cannot mount one")
    if not shutil.which(f"mkfs.{kind}", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip(f"needs the program mkfs.{kind}")
    image, where = tmp_path / "image", tmp_path / "disk"
    where.mkdir()
    with open(image, "wb") as file:
        file.truncate(IMAGE_SIZE)
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
    subprocess.run([f"mkfs.{kind}", "-q", str(image)], check=True, env=environment)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        engine = Engine("--data-root", f"{where}/data")
        try:
            engine.start()
            assert engine.client.post("/images/load", busybox_archive).status == 200
            yield engine
        finally:
            engine.close()
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("act", ["snapshot", "fork", "commit"])
def test_a_running_containers_files_are_shared(sharing: Engine, tmp_path: Path, act: str) -> None:
    sharing.skiff("run", "-d", "--name", "db", "busybox", "sleep", "1000").ok()
    sharing.skiff("exec", "db", "dd", "if=/dev/urandom", "of=/big", "bs=1M", f"count={SIZE >> 20}").ok()
    before = used(tmp_path)
    sharing.skiff(act, "db", "copy").ok()
    assert used(tmp_path) - before < SIZE // 4
    original, copy = copies(tmp_path, "big")
    assert shared(original) == shared(copy) != []


def test_a_volumes_files_are_shared_until_one_is_written_to(sharing: Engine, tmp_path: Path) -> None:
    fill = ("dd", "if=/dev/urandom", "of=/v/big", "bs=1M", f"count={SIZE >> 20}")
    sharing.skiff("run", "--rm", "-v", "first:/v", "busybox", *fill).ok()
    sharing.skiff("volume", "clone", "first", "second").ok()
    original, copy = copies(tmp_path, "big")
    assert shared(original) == shared(copy) != []
    sharing.skiff("run", "--rm", "-v", "second:/v", "busybox", *fill).ok()
    assert shared(original) == shared(copy) == []


def test_a_context_on_the_same_disk_takes_no_space(sharing: Engine, tmp_path: Path) -> None:
    """Neither what is kept of it nor a layer that cannot have the same inode, for its owner is another."""
    context = tmp_path / "disk/context"
    context.mkdir()
    (context / "big").write_bytes(os.urandom(SIZE))
    (context / "Dockerfile").write_text("FROM busybox\nCOPY --chown=1:1 big /big\n")
    os.sync()
    before = used(tmp_path)
    sharing.skiff("build", "-t", "built", str(context)).ok()
    assert used(tmp_path) - before < SIZE // 4
    first, *others = sorted((tmp_path / "disk").rglob("big"))
    assert len(others) == 2
    assert all(shared(one) == shared(first) != [] for one in others)
    command = ("sha256sum", "/big")
    seen = sharing.skiff("run", "--rm", "--network=none", "built", *command).ok()
    assert seen.split()[0] == hashlib.sha256((context / "big").read_bytes()).hexdigest()


def copies(root: Path, name: str) -> list[Path]:
    found = sorted((root / "disk").rglob(name))
    assert len(found) == 2, found
    assert {path.stat().st_size for path in found} == {SIZE}
    return found


def used(root: Path) -> int:
    """Bytes allocated on the disk."""
    os.sync()
    status = os.statvfs(root / "disk")
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def shared(path: Path) -> list[tuple[int, int, int]]:
    """(place in the file, place on the disk, bytes) of what belongs to other files, too."""
    answer = bytearray(HEAD.pack(0, 2**64 - 1, SYNC, 0, MOST, 0) + bytes(MOST * EXTENT.size))
    with open(path, "rb") as file:
        fcntl.ioctl(file, FIEMAP, answer)
    count = HEAD.unpack_from(answer)[3]
    assert count, "the file has no data on the disk"
    extents = [EXTENT.unpack_from(answer, HEAD.size + at * EXTENT.size) for at in range(count)]
    return [(one[0], one[1], one[2]) for one in extents if one[5] & SHARED]
