"""An engine that was killed between wish and fact, and the next one."""

import asyncio
from pathlib import Path

import pytest
from tests.fakes.engine_containers import Room

from skiff.engine.containers.supervisor import UNKNOWN_CODE
from skiff.engine.storage.snapshots import SnapshotKey


async def test_running_containers_are_adopted(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        id = await room.run("sleep", "100")
    async with Room(tmp_path, room) as again:
        assert again.record(id).state.running
        await again.life.stop(id)
        assert again.record(id).state.exit_code == 143


async def test_who_stood_still_for_a_copy_goes_on(tmp_path: Path) -> None:
    """Killed in the midst of a commit or a snapshot."""
    async with Room(tmp_path) as room:
        id, ended = await room.run("sleep", "100"), await room.run("sleep", "100")
        for one in (id, ended):
            await room.runtime.tasks[one].freeze()
    room.runtime.exit(ended, 7)
    async with Room(tmp_path, room) as again:
        assert not again.runtime.tasks[id].is_paused
        assert not again.record(id).state.paused
        assert (await asyncio.wait_for(again.life.wait(ended), 5)).status_code == 7


async def test_who_was_paused_stays_so_unless_it_was_woken(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        id, woken = await room.run("sleep", "100"), await room.run("sleep", "100")
        for one in (id, woken):
            await room.life.pause(one)
        await room.runtime.tasks[woken].thaw()
    async with Room(tmp_path, room) as again:
        assert again.runtime.tasks[id].is_paused
        assert again.record(id).state.paused
        assert again.record(woken).state.status == "running"


async def test_an_exit_meanwhile_is_handled_as_if_it_happened_now(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        id = await room.run("sleep", "100")
        gone = await room.run("sleep", "100", host={"AutoRemove": True})
    room.runtime.exit(id, 7)
    room.runtime.exit(gone, 0)
    async with Room(tmp_path, room) as again:
        assert (await asyncio.wait_for(again.life.wait(id), 5)).status_code == 7
        assert again.record(id).state.status == "exited"
        async with asyncio.timeout(5):
            while gone in again.containers.records:
                await asyncio.sleep(0)


async def test_a_task_that_vanished_has_ended(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        id = await room.run("sleep", "100")
    room.runtime.tasks.clear()
    async with Room(tmp_path, room) as again:
        state = again.record(id).state
        assert (state.status, state.exit_code) == ("exited", UNKNOWN_CODE)


async def test_a_start_that_was_cut_short_is_undone(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        id = await room.create("sleep", "100")
        before = room.record(id)
        await room.life.start(id)
        room.state.table("container", type(before)).put(id, before)
    async with Room(tmp_path, room) as again:
        assert again.record(id).state.status == "created"
        assert id not in again.runtime.tasks
        await again.life.start(id)


async def test_a_create_that_was_cut_short_leaves_no_snapshot(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.snapshots.prepare(SnapshotKey("a" * 64), None)
    async with Room(tmp_path, room) as again:
        assert list(again.snapshots.walk()) == []


async def test_a_removal_that_was_cut_short_is_completed(tmp_path: Path) -> None:
    async with Room(tmp_path) as room:
        id = await room.create("true")
    room.snapshots.remove(SnapshotKey(id))
    async with Room(tmp_path, room) as again:
        assert id not in again.containers.records


@pytest.mark.parametrize(
    ("policy", "stopped", "runs"),
    [
        ("always", True, True),
        ("unless-stopped", True, False),
        ("unless-stopped", False, True),
        ("no", False, False),
    ],
)
async def test_who_starts_with_the_engine(tmp_path: Path, policy: str, stopped: bool, runs: bool) -> None:
    async with Room(tmp_path) as room:
        id = await room.run("sleep", "100", host={"RestartPolicy": {"Name": policy}})
        if stopped:
            await room.life.stop(id)
    if not stopped:
        room.runtime.tasks.clear()
    async with Room(tmp_path, room) as again:
        for _ in range(50):
            await asyncio.sleep(0)
        assert again.record(id).state.running is runs
