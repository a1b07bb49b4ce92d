import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.engine_containers import Room
from tests.fakes.fake_runtime import FakeTask

from skiff.docker import filters, wire
from skiff.docker.container import ContainerUpdate
from skiff.engine.execution.runtime import AttachRequest
from skiff.errors import CannotRun, Conflict, InvalidParameter, NotFound, NotModified, SkiffError


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with Room(tmp_path) as room:
        yield room


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_create_start_wait_remove(room: Room) -> None:
    id = await room.create("sh", "-c", "exit 3", name="web")
    assert room.record(id).state.status == "created"
    waiting = room.life.wait("web", "next-exit")
    await room.life.start("web")
    assert (await waiting).status_code == 3
    assert (await room.life.wait(id)).status_code == 3
    state = room.record(id).state
    assert (state.status, state.exit_code, state.running, state.pid) == ("exited", 3, False, 0)
    await room.life.remove(id[:12])
    assert room.actions == ["create", "start", "die", "destroy"]
    with pytest.raises(NotFound, match="No such container: web"):
        await room.life.start("web")
    assert list(room.snapshots.walk()) == []


async def test_the_event_of_an_exit_tells_code_and_image(room: Room) -> None:
    await room.life.wait(await room.run("false", name="web"))
    die = next(event for event in room.events if event.action == "die")
    assert die.actor.attributes["exitCode"] == "1"
    assert die.actor.attributes["image"] == "busybox"
    assert die.actor.attributes["name"] == "web"
    assert die.actor.attributes["from"] == "image"


async def test_a_second_start_is_not_modified(room: Room) -> None:
    id = await room.run("sleep", "100")
    with pytest.raises(NotModified):
        await room.life.start(id)


async def test_names_are_unique_until_their_container_goes(room: Room) -> None:
    id = await room.create("true", name="web")
    with pytest.raises(Conflict, match=f'The container name "/web" is already in use by container "{id}"'):
        await room.create("true", name="web")
    other = await room.create("true", name="other")
    with pytest.raises(Conflict):
        await room.life.rename(other, "web")
    await room.life.rename(id, "old")
    await room.life.rename(other, "web")
    assert room.record(other).name == "web"
    await room.life.remove("web")
    assert await room.create("true", name="web")


async def test_a_failed_create_leaves_nothing(room: Room) -> None:
    with pytest.raises(InvalidParameter, match="bind source path does not exist"):
        await room.create(
            "true", name="web", host={"Mounts": [{"Type": "bind", "Source": "/nonexistent", "Target": "/x"}]}
        )
    assert list(room.snapshots.walk()) == []
    assert await room.create("true", name="web")


async def test_unknown_image(room: Room) -> None:
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        await room.create("true", Image="nope")


async def test_stop_signals_and_waits(room: Room) -> None:
    id = await room.run("sleep", "100", StopSignal="SIGINT")
    await room.life.stop(id)
    assert room.record(id).state.exit_code == 130
    assert room.actions == ["create", "start", "kill", "die", "stop"]
    with pytest.raises(NotModified):
        await room.life.stop(id)


async def test_stop_kills_after_its_patience(room: Room) -> None:
    id = await room.run("sleep", "100")
    await room.life.stop(id, signal="SIGUSR1", timeout=0)
    assert room.record(id).state.exit_code == 137


async def test_kill_needs_a_running_one(room: Room) -> None:
    id = await room.create("true", name="web")
    with pytest.raises(Conflict, match=r"cannot kill container: web: container .* is not running"):
        await room.life.kill("web")
    with pytest.raises(InvalidParameter, match="invalid signal: FOO"):
        await room.life.kill(id, signal="FOO")


async def test_pause_and_unpause(room: Room) -> None:
    id = await room.run("sleep", "100")
    await room.life.pause(id)
    state = room.record(id).state
    assert (state.status, state.running, state.paused) == ("paused", True, True)
    with pytest.raises(Conflict, match="already paused"):
        await room.life.pause(id)
    await room.life.unpause(id)
    assert room.record(id).state.status == "running"


async def test_remove_wants_it_stopped_or_force(room: Room) -> None:
    id = await room.run("sleep", "100", name="web")
    with pytest.raises(
        Conflict, match='cannot remove container "web": container is running: stop the container'
    ):
        await room.life.remove(id)
    removed = room.life.wait(id, "removed")
    await room.life.remove(id, force=True)
    assert (await removed).status_code == 137
    assert len(room.containers.records) == 0


async def test_rm_removes_after_the_exit_and_its_anonymous_volumes(room: Room) -> None:
    id = await room.create("sh", "-c", "exit 4", host={"AutoRemove": True}, Volumes={"/data": {}})
    assert len(room.volumes.volumes) == 1
    removed = room.life.wait(id, "removed")
    await room.life.start(id)
    assert (await removed).status_code == 4
    assert id not in room.containers.records
    assert not room.volumes.volumes


async def test_restart_keeps_a_container_with_rm(room: Room) -> None:
    id = await room.run("sleep", "100", host={"AutoRemove": True})
    await room.life.restart(id, timeout=0)
    assert room.record(id).state.running
    assert room.actions[-1] == "restart"


async def test_a_command_that_is_not_there(room: Room) -> None:
    id = await room.create("nope")
    with pytest.raises(CannotRun, match='exec: "nope": executable file not found') as caught:
        await room.life.start(id)
    assert caught.value.exit_code == 127
    state = room.record(id).state
    assert (state.status, state.exit_code) == ("created", 127)
    assert state.error == str(caught.value)
    assert id not in room.containers.live.tasks
    assert not room.runtime.tasks


async def test_a_failed_start_with_rm_removes(room: Room) -> None:
    id = await room.create("nope", host={"AutoRemove": True})
    removed = room.life.wait(id, "removed")
    with pytest.raises(CannotRun):
        await room.life.start(id)
    assert (await removed).status_code == 127


async def test_on_failure_restarts_so_often(room: Room) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    id = await room.run("false", host=policy)
    assert (await asyncio.wait_for(room.life.wait(id), 5)).status_code == 1  # at the first exit, as Docker
    async with asyncio.timeout(5):
        while room.record(id).restarts < 2 or room.record(id).state.status != "exited":
            await asyncio.sleep(0.01)
    assert room.actions.count("die") == 3
    assert room.record(id).state.status == "exited"


async def test_always_restarts_unless_a_person_stops_it(room: Room) -> None:
    id = await room.run("sleep", "100", host={"RestartPolicy": {"Name": "always"}})
    room.runtime.exit(id, 0)
    await settled()
    state = room.record(id).state
    assert (state.status, state.running, state.restarting) == ("restarting", True, True)
    await room.life.stop(id)
    assert room.record(id).state.status == "exited"
    await room.life.start(id)
    await room.life.stop(id)
    await settled()
    assert room.record(id).state.status == "exited"


async def test_attach_before_start_misses_nothing(room: Room) -> None:
    id = await room.create("echo", "hello")
    ours, theirs = socket.socketpair()
    await room.containers.attachments.attach(id, theirs, AttachRequest(framed=False))
    await room.life.start(id)
    await room.life.wait(id)
    assert ours.recv(100) == b"hello\n"
    ours.close()


async def test_update_changes_limits_and_policy(room: Room) -> None:
    id = await room.run("sleep", "100")
    wish = {"Memory": 64 << 20, "MemorySwap": 128 << 20, "RestartPolicy": {"Name": "always"}}
    await room.life.update(id, wire.convert(wish, ContainerUpdate))
    assert room.record(id).host.memory == 64 << 20
    assert room.record(id).host.restart_policy.name == "always"
    resources = room.runtime.tasks[id].resources
    assert resources is not None and resources.memory is not None
    assert resources.memory.limit == 64 << 20


async def test_prune_takes_what_does_not_run(room: Room) -> None:
    down = await room.create("true")
    up = await room.run("sleep", "100")
    report = await room.life.prune(filters.Filters())
    assert report.containers_deleted == (down,)
    assert up in room.containers.records


async def test_a_network_that_is_not_there_is_refused(room: Room) -> None:
    from skiff.docker.container import ContainerCreate

    asked = wire.convert({"Image": "busybox", "HostConfig": {"NetworkMode": "web"}}, ContainerCreate)
    with pytest.raises(NotFound, match="network web not found"):
        await room.containers.creation.create(asked)


async def test_one_killed_before_its_start_stays_created(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Docker: the start fails with the exit of what had been made, the next one makes it anew."""
    id = await room.create("sleep", "100", name="web")
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    await room.containers.attachments.attach("web", theirs, AttachRequest())
    make = room.runtime.create

    async def killed(*arguments: Any, **named: Any) -> FakeTask:
        task = await make(*arguments, **named)
        await task.signal(9)
        return task

    with ours, monkeypatch.context() as patched:
        patched.setattr(room.runtime, "create", killed)
        with pytest.raises(SkiffError, match=r"^cannot start a stopped process$"):
            await room.life.start("web")
        assert ours.recv(1) == b""
    state = room.record(id).state
    assert (state.status, state.exit_code, state.error) == ("created", 137, "cannot start a stopped process")
    await room.life.start("web")
    assert room.record(id).state.running
