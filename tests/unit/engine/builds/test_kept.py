"""Contexts that are kept: sent as a tar or given as a directory, they are the same, and what fails leaves
nothing.
"""

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skiff.client.build_context import Context
from skiff.client.context_sync import Sync
from skiff.engine.builds import gathering
from skiff.engine.builds.gathering import shares
from skiff.engine.builds.kept import Trees
from skiff.engine.storage.extractor import Extractor
from skiff.engine.storage.gather import Item
from skiff.engine.storage.state import MemoryState
from skiff.errors import InvalidParameter, NotFound

pytestmark = pytest.mark.root


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    extractor = Extractor(idle_seconds=1)
    yield Trees(str(tmp_path / "trees"), extractor, MemoryState())
    extractor.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Everything that a context may hold."""
    root = tmp_path / "context"
    (root / "d/deep er").mkdir(parents=True)
    (root / "d").chmod(0o2750)
    (root / "empty").mkdir()
    (root / "d/deep er/f").write_bytes(b"f" * 10)
    (root / "nothing").write_bytes(b"")
    (root / "large").write_bytes(os.urandom(3_000_000))
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o4755)
    (root / os.fsdecode(b"\xff\xe9")).write_text("no utf-8")
    (root / "link").symlink_to("d/nowhere")
    os.mkfifo(root / "pipe")
    os.link(root / "large", root / "d/other")
    for number in range(200):
        (root / f"n{number}").write_bytes(bytes([number]) * number * 100)
    for path in (root / "tool", root / "d"):
        os.utime(path, (1_000_000_000.5, 1_000_000_000.5))
    os.utime(root / "link", (5, 5), follow_symlinks=False)
    return root


async def sent(trees: Trees, sync: Sync, token: str, missing: list[int]) -> None:
    async def body() -> AsyncIterator[bytes]:
        for piece in sync._tar(set(missing)):
            yield piece

    await trees.fill(token, body())


async def given(trees: Trees, sync: Sync, token: str, missing: list[int]) -> None:
    client, engine = socket.socketpair()
    fd = os.open(sync._root, os.O_RDONLY)
    with client, engine:
        socket.send_fds(client, [b"d"], [fd])
        os.close(fd)
        await trees.attach(token, engine)


def offered(trees: Trees, context: Path) -> tuple[Sync, str, list[int]]:
    sync = Sync(Context(str(context), ""))
    token, missing = trees.offer(str(context), sync.manifest)
    assert missing is not None
    return sync, token, missing


def told(root: Path) -> dict[str, Any]:
    """All that can be seen of a tree."""
    found: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        first = inodes.setdefault(status.st_ino, name)
        found[name] = (oct(status.st_mode), int(status.st_mtime), status.st_uid, first, content)
    return found


@pytest.mark.parametrize("bring", [sent, given])
def test_a_context_arrives_as_it_is(
    trees: Trees, context: Path, tmp_path: Path, bring: Callable[..., Any]
) -> None:
    sync, token, missing = offered(trees, context)
    asyncio.run(bring(trees, sync, token, missing))
    with trees.use(token) as (kept, newest):
        assert told(Path(kept.directory)) == told(context)
        assert kept.sums.keys() == {
            str(path.relative_to(context))
            for path in context.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        assert (
            newest
            == max(int(path.lstat().st_mtime) for path in context.rglob("*") if not path.is_dir()) * 10**9
        )


def test_both_ways_know_the_same_digests(trees: Trees, context: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(context, copy, symlinks=True, ignore=shutil.ignore_patterns("pipe"))
    for place, bring in ((context, sent), (copy, given)):
        asyncio.run(bring(trees, *offered(trees, place)))
    sums = []
    for row in trees.rows():
        with trees.use(row) as (kept, _):
            sums.append(dict(kept.sums))
    assert sums[0] == sums[1]


def test_only_what_has_changed_is_taken(trees: Trees, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(given(trees, *offered(trees, context)))
    (context / "n7").write_text("changed")
    (context / "n8").unlink()
    (context / "new").mkdir()
    (context / "new/f").write_text("new")
    asked: list[Item] = []
    gather = Extractor.gather

    def watched(self: Extractor, source: int, target: int, items: list[Item], waiting: int) -> Any:
        asked.extend(items)
        return gather(self, source, target, items, waiting)

    monkeypatch.setattr(Extractor, "gather", watched)
    sync, token, missing = offered(trees, context)
    asyncio.run(given(trees, sync, token, missing))
    assert sorted(item[1] for item in asked if item[0] == "f") == ["n7", "new/f"]
    with trees.use(token) as (kept, _):
        assert told(Path(kept.directory)) == told(context)


def grown(context: Path) -> None:
    with open(context / "n9", "ab") as file:
        file.write(b"more")


def gone(context: Path) -> None:
    (context / "n9").unlink()


def a_link(context: Path) -> None:
    (context / "n9").unlink()
    (context / "n9").symlink_to("n10")


def a_directory_that_is_a_link(context: Path) -> None:
    (context / "d").rename(context / "e")
    (context / "d").symlink_to("e")


def a_pipe(context: Path) -> None:
    (context / "n9").unlink()
    os.mkfifo(context / "n9")


@pytest.mark.parametrize("change", [grown, gone, a_link, a_directory_that_is_a_link, a_pipe])
def test_what_has_changed_meanwhile_is_not_taken_and_may_still_be_sent(
    trees: Trees, context: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    before = Sync(Context(str(context), ""))
    sync, token, missing = offered(trees, context)
    archive = list(before._tar(set(missing)))
    change(context)
    with pytest.raises(OSError):
        asyncio.run(given(trees, sync, token, missing))
    assert os.listdir(tmp_path / "trees") == []

    async def body() -> AsyncIterator[bytes]:
        for piece in archive:
            yield piece

    asyncio.run(trees.fill(token, body()))
    assert os.listdir(tmp_path / "trees") == [token]


@pytest.mark.parametrize("leaves", [True, False])
def test_a_connection_that_brings_no_descriptor(
    trees: Trees, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    monkeypatch.setattr(gathering, "_PATIENCE", 0.05)
    _, token, _ = offered(trees, context)
    client, engine = socket.socketpair()
    with client, engine:
        if leaves:
            client.close()
        with pytest.raises(InvalidParameter, match="carries no descriptors"):
            asyncio.run(trees.attach(token, engine))
    assert os.listdir(tmp_path / "trees") == []
    assert trees.expects(token)


def test_nobody_waits_any_more(trees: Trees, context: Path, tmp_path: Path) -> None:
    """A file without an end, as far as anybody will wait for: its client leaves in the midst of it."""
    with open(context / "huge", "wb") as file:
        file.truncate(1 << 40)
    _, token, _ = offered(trees, context)
    client, engine = socket.socketpair()
    fd = os.open(context, os.O_RDONLY)
    with engine:
        socket.send_fds(client, [b"d"], [fd])
        os.close(fd)
        timer = threading.Timer(0.3, client.close)
        timer.start()
        with pytest.raises(BrokenPipeError):
            asyncio.run(trees.attach(token, engine))
        timer.join()
    assert os.listdir(tmp_path / "trees") == []


@pytest.mark.parametrize(
    "manifest",
    [
        b"l 120777 4 0 1 l\0/etc\0f 100644 1 0 1 l/passwd\0",
        b"l 120777 4 0 1 l\0..\0d 40755 1 0 1 l/evil\0",
        b"f 100644 1 0 1 f\0f 100644 1 0 1 f/g\0",
        b"f 100644 1 0 1 missing/f\0",
        b"l 120777 0 0 1 l\0\0",
    ],
)
def test_a_manifest_that_means_ill_leaves_nothing(trees: Trees, tmp_path: Path, manifest: bytes) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "l").symlink_to("/etc")
    (context / "f").write_text("1")
    token, missing = trees.offer("key", manifest)
    assert missing is not None
    with pytest.raises(OSError):
        asyncio.run(given(trees, Sync(Context(str(context), "")), token, missing))
    assert sorted(os.listdir(tmp_path)) == ["context", "trees"]
    assert os.listdir(tmp_path / "trees") == []


def test_what_was_not_offered_is_not_taken(trees: Trees, context: Path) -> None:
    with pytest.raises(NotFound):
        asyncio.run(given(trees, Sync(Context(str(context), "")), "0" * 32, []))


def test_shares_cost_about_the_same_and_lose_nothing() -> None:
    files: list[Item] = [("f", f"{n}", 0o644, n * 1000, 0, "") for n in range(1000)]
    parts = shares(files, 4)
    assert [item for part in parts for item in part] == files
    costs = [sum(gathering._cost(item) for item in part) for part in parts]
    assert len(parts) == 4
    assert max(costs) < 1.1 * min(costs)
    assert len(shares(files[:100], 4)) == 1
    assert shares([], 4) == []
    huge: list[Item] = [("f", "huge", 0o644, 1 << 40, 0, ""), *files]
    assert [len(part) for part in shares(huge, 2)] == [1, 1000]
