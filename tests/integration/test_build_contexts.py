"""Contexts of every shape, however they come to the engine."""

import os
import sys
from pathlib import Path

import pytest

from skiff.client.build_context import Context
from tests.integration.engines import Engine
from tests.integration.test_build import build, image

SHOWN = "FROM busybox\nCOPY . /c\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "d/deep").mkdir(parents=True)
    (root / "d").chmod(0o2775)
    (root / "d/deep/large").write_bytes(os.urandom(1 << 20))
    (root / "d/tool").write_text("#!/bin/sh\n")
    (root / "d/tool").chmod(0o4755)
    (root / os.fsdecode(b"\xff\xe9")).write_text("no utf-8")
    (root / "link").symlink_to("d/deep")
    os.link(root / "d/deep/large", root / "again")
    for number in range(150):
        (root / f"n{number}").write_bytes(bytes([number]) * 10_000)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    (root / "Dockerfile").write_text(SHOWN)
    os.utime(root / "Dockerfile", (1_600_000_000, 1_600_000_000))
    return root


def test_a_directory_and_a_tar_of_it_give_the_same_image(
    engine: Engine, own_engine: Engine, root: Path
) -> None:
    told = engine.skiff("build", "-q", str(root)).ok()
    archive = b"".join(Context(str(root), "Dockerfile").tar())
    assert image(build(own_engine, archive)) == told
    command = r"cd /c; stat -c '%A %n' * d/* | tr '\377\351' 'XY' | grep -v ' n'"
    listing = engine.skiff("run", "--rm", "--network=none", told, "sh", "-c", command).ok().splitlines()
    for line in ("drwxrwsr-x d", "-rwsr-xr-x d/tool", "-rw-r--r-- XY", "lrwxrwxrwx link"):
        assert line in listing


def test_what_changes_is_taken_alone_and_the_rest_is_there(engine: Engine, root: Path) -> None:
    engine.skiff("build", "-t", "first", str(root)).ok()
    (root / "d/more").write_bytes(b"more" * 400_000)
    (root / "n3").unlink()
    out = engine.skiff("build", "-t", "second", str(root)).ok()
    assert "Using cache" not in out
    command = "cd /c; cat d/more | wc -c; cat again | cmp - d/deep/large; ls | wc -l"
    seen = engine.skiff("run", "--rm", "--network=none", "second", "sh", "-c", command).ok()
    assert seen.split() == ["1600000", str(len(os.listdir(root)))]
    assert "Using cache" in engine.skiff("build", "-t", "second", str(root)).ok()


def test_a_file_that_grows_while_it_is_sent(engine: Engine, root: Path) -> None:
    """Its size is told before it is read: the engine takes no other, and the tar keeps to what was told."""
    script = f"""
import os, sys
from skiff.client import context_sync
from skiff.client.build_context import Context
from skiff.client.connection import Connection
from skiff.client.endpoint import Endpoint
sync = context_sync.Sync(Context({str(root)!r}, ""))
with open({str(root / "n7")!r}, "ab") as file:
    file.write(b"more")
print(sync.run(Connection(Endpoint({f"unix://{engine.socket}"!r})), "growing"))
"""
    token = engine.run(sys.executable, "-c", script).ok().strip()
    files = Path(engine.root, "data/build-contexts", token, "files")
    assert (files / "n7").read_bytes() == bytes([7]) * 10_000
    assert (files / "d/tool").stat().st_mode & 0o7777 == 0o4755
