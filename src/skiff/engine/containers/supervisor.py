"""What follows an exit: state, events, restart or removal; and reconciliation at boot.

exit ──► record: exited ──► waiters of the exit ──► cgroup, network, volumes closed
                                                      ├─► policy: restart after a delay
                                                      ├─► --rm: removal
                                                      └─► waiters of the end
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from msgspec.structs import replace

from skiff.docker import units
from skiff.docker.container_view import WaitResponse
from skiff.engine.containers import restart, states
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.health import Probes
from skiff.engine.containers.lifecycle import Lifecycle
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Container, Records
from skiff.engine.execution import bundle
from skiff.engine.execution.runtime import Runtime, Task, TaskExit
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.errors import Conflict, NotFound, SkiffError

log = logging.getLogger(__name__)
UNKNOWN_CODE = 255  # the machine went down, or the monitor was killed: nobody saw the exit
ID_LENGTH = 64


class Supervisor:
    def __init__(
        self,
        *,
        records: Records,
        live: Live,
        runtime: Runtime,
        lifecycle: Lifecycle,
        probes: Probes,
        announce: Announcer,
    ) -> None:
        self.records = records
        self.live = live
        self.runtime = runtime
        self.lifecycle = lifecycle
        self.probes = probes
        self.announce = announce
        # around the work that follows an exit
        self.traced: Callable[[str], AbstractContextManager[object]] = nullcontext
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Follow the runtime's exits until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self.probes.spawn = self._spawn
            for container in self.records:
                if container.state.running and not container.state.restarting:
                    self.probes.begin(container)
                elif container.state.restarting or _starts_now(container):
                    self._spawn(self._start_again(container.id))
            try:
                async for exit in self.runtime.exits():
                    self._spawn(self.exited(exit))
            finally:
                self._group = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            work.close()
            return
        self._group.create_task(_logged(work))

    async def exited(self, exit: TaskExit) -> None:
        """One task has ended. Its id may be a container that was removed meanwhile."""
        id = exit.id
        if id not in self.records:
            return
        async with self.live.locks[id]:
            if id not in self.records:
                return
            container = self.records.get(id)
            with self.traced(id):
                await self._settle(container, exit)

    async def _settle(self, container: Container, exit: TaskExit) -> None:
        id = container.id
        task = self.live.tasks.pop(id, None)
        if task is None:
            return
        self.probes.end(id)
        if exit.oom_killed:
            self.announce(container, "oom")
        finished = units.rfc3339(_ns(exit))
        state = states.exited(container.state, code=exit.code, oom_killed=exit.oom_killed, at=finished)
        delay = restart.next_start(
            container.host.restart_policy,
            exit,
            restarts=container.restarts,
            previous=self.live.delays.get(id, restart.NO_DELAY),
            stopped_by_user=container.stopped_by_user,
        )
        if id in self.live.kept:
            delay = None
        if delay is not None:
            state = states.restarting(state)
        container = self.records.put(replace(container, state=state))
        self.announce(
            container, "die", exitCode=str(exit.code), execDuration=str(int(exit.ran_for.total_seconds()))
        )
        response = WaitResponse(status_code=exit.code)
        self.live.tell_exit(id, response)
        try:
            await task.delete()
        finally:
            await self.lifecycle.starting.close(container)
        bundle.remove(self.lifecycle.starting.run, id)
        if delay is not None:
            self.live.delays[id] = delay
            loop = asyncio.get_running_loop()
            self.live.restarts[id] = loop.call_later(
                delay.total_seconds(), lambda: self._spawn(self._start_again(id))
            )
            self.live.tell_down(id, response)
            return
        self.live.delays.pop(id, None)
        if container.host.auto_remove and id not in self.live.kept:
            await self.lifecycle.erase(container, volumes=True)
        self.live.tell_stop(id, response)

    async def _start_again(self, id: str) -> None:
        async with self.live.locks[id]:
            self.live.restarts.pop(id, None)
            if id not in self.records:
                return
            container = self.records.get(id)
            if container.state.running and not container.state.restarting:
                return
            try:
                await self.lifecycle.launch(replace(container, restarts=container.restarts + 1))
            except SkiffError as error:
                log.warning("restart of container %s failed: %s", id, error)

    # -- boot ----------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """At boot, before serving: adopt what runs, handle what ended meanwhile, undo what was half made."""
        snapshots = self.lifecycle.snapshots
        owned = self._owned()
        for container in self.records:
            if container.id not in owned:
                # a removal that a crash cut short
                await self._undo(container)
                await self.lifecycle.erase(container, volumes=container.host.auto_remove)
            elif container.state.running and not container.state.restarting:
                await self._adopt(container)
            else:
                await self._undo(container)
                if container.host.auto_remove and container.was_started:
                    await self.lifecycle.erase(container, volumes=True)
        for id in self._owned():
            if len(id) == ID_LENGTH and id not in self.records and not self.lifecycle.kept.holds(id):
                snapshots.remove(SnapshotKey(id))  # a create that a crash cut short
        running = [c for c in self.records if c.id in self.live.tasks]
        await self.lifecycle.sandboxes.reopen(running)

    def _owned(self) -> set[str]:
        return {info.id for info in self.lifecycle.snapshots.walk() if info.kind == "active"}

    async def _adopt(self, container: Container) -> None:
        task = await self.runtime.load(container.id)
        if task is not None:
            # if it has exited, exits() tells so as well, and run() handles it as if it happened now
            self.live.tasks[container.id] = task
            await self._agree(container, task)
            return
        state = states.exited(
            container.state, code=UNKNOWN_CODE, oom_killed=False, at=container.state.started_at
        )
        container = self.records.put(replace(container, state=state))
        await self.lifecycle.starting.close(container)
        bundle.remove(self.lifecycle.starting.run, container.id)
        if container.host.auto_remove:
            await self.lifecycle.erase(container, volumes=True)

    async def _agree(self, container: Container, task: Task) -> None:
        """A crash may have come while it stood still for a copy of its files, or while it was unpaused."""
        if task.is_paused and not container.state.paused:
            with contextlib.suppress(Conflict):  # it has just ended
                await task.thaw()
        elif container.state.paused and not task.is_paused:
            self.records.put(replace(container, state=states.unpaused(container.state, container.id)))

    async def _undo(self, container: Container) -> None:
        """A start that was never stored as done: nobody was told that it runs."""
        try:
            task = await self.runtime.load(container.id)
            if task is not None:
                await task.delete(force=True)
        except (SkiffError, OSError) as error:
            log.warning("leftovers of container %s: %s", container.id, error)
        bundle.remove(self.lifecycle.starting.run, container.id)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    """One container's trouble must not end the supervision of the others."""
    try:
        await work
    except NotFound:
        return  # removed meanwhile
    except Exception:
        log.exception("supervision of a container failed")


def _starts_now(container: Container) -> bool:
    return not container.state.running and restart.starts_at_boot(
        container.host.restart_policy,
        stopped_by_user=container.stopped_by_user,
        was_started=container.was_started,
    )


def _ns(exit: TaskExit) -> int:
    return int(exit.finished.timestamp() * 1_000_000) * 1000
