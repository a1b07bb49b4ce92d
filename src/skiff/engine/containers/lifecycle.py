"""start, stop, kill, restart, pause, rename, update, wait, remove: one verb each, under a lock per container.

A lock is never held while a process is given time to end: the supervisor needs it to handle the exit. There
is no record of a start that is under way: until the record says running, a task that a boot finds is undone.
"""

import asyncio
import os
import signal as signals
import time
from collections.abc import Awaitable
from typing import Literal

from msgspec import UNSET
from msgspec.structs import replace

from skiff.docker import units
from skiff.docker.container import ContainerUpdate, HostConfig, Resources, UpdateResponse
from skiff.docker.container_view import ContainersPruneReport, WaitError, WaitResponse
from skiff.docker.filters import Filters
from skiff.docker.signals import signal_number
from skiff.engine.containers import restart, states
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.attach import Attachments
from skiff.engine.containers.ground import written
from skiff.engine.containers.health import Probes
from skiff.engine.containers.kept import KeptContainers
from skiff.engine.containers.live import Live
from skiff.engine.containers.networking import Sandboxes
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.spec import limits, merge
from skiff.engine.containers.starting import Starting
from skiff.engine.containers.trash import Trash
from skiff.engine.containers.volumes import Volumes
from skiff.engine.execution import bundle
from skiff.engine.execution.runtime import EndedEarly, RuntimeFailure, Task
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import CannotRun, Conflict, InvalidParameter, NotFound, NotModified, SkiffError

WaitCondition = Literal["not-running", "next-exit", "removed"]
KILL_PATIENCE = 10.0  # seconds that kill waits for the exit it caused
OTHER_FAILURE = 128  # the exit code of a start that failed before there was a command
START_FAILED = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
PRUNE_FILTERS = ("until", "label", "label!")
# Of Resources: what a container is made with, and no update changes.
MADE_ONCE = frozenset(
    (
        "blkio_device_read_bps", "blkio_device_read_iops", "blkio_device_write_bps",
        "blkio_device_write_iops", "blkio_weight_device", "cgroup_parent", "device_cgroup_rules",
        "device_requests", "devices", "ulimits",
    )
)  # fmt: skip


class Lifecycle:
    """`text` is what the user typed: id, name or prefix."""

    def __init__(
        self,
        *,
        records: Records,
        live: Live,
        starting: Starting,
        attachments: Attachments,
        snapshots: Snapshotter,
        sandboxes: Sandboxes,
        volumes: Volumes,
        trash: Trash,
        kept: KeptContainers,
        announce: Announcer,
        machine: limits.Machine,
        stop_timeout: int,
        probes: Probes,
    ) -> None:
        self.records = records
        self.live = live
        self.starting = starting
        self.attachments = attachments
        self.snapshots = snapshots
        self.sandboxes = sandboxes
        self.volumes = volumes
        self.trash = trash
        self.kept = kept
        self.announce = announce
        self.machine = machine
        self.stop_timeout = stop_timeout
        self.probes = probes

    # -- start ---------------------------------------------------------------------------------------------

    async def start(self, text: str) -> None:
        """NotModified if it runs already; CannotRun (126, 127), Conflict, NotFound."""
        id = self.records.find(text).id
        async with self.live.locks[id]:
            container = self.records.get(id)
            states.startable(container.state, id)
            self.live.cancel_restart(id)
            self.live.delays.pop(id, None)
            await self.launch(replace(container, restarts=0))

    async def launch(self, container: Container) -> None:
        """With the lock held: run it. A failure is told, stored and, with --rm, followed by removal."""
        try:
            task = await self.starting.prepare(container)
        except (SkiffError, OSError) as error:
            await self._start_failed(container, error)
            raise _as_docker_says(error) from error
        try:
            await self.attachments.connect(container.id, task)
            await task.start()
        except (SkiffError, OSError) as error:
            await self._abandon(container, task)
            await self._start_failed(container, error)
            raise _as_docker_says(error) from error
        except BaseException:
            await self._abandon(container, task)
            raise
        self.live.tasks[container.id] = task
        state = states.started(container.state, pid=task.pid, at=units.rfc3339(time.time_ns()))
        container = replace(container, state=state, stopped_by_user=False, was_started=True)
        self.records.put(container)
        self.announce(container, "start")
        self.sandboxes.started(container)
        self.probes.begin(container)

    async def _abandon(self, container: Container, task: Task) -> None:
        try:
            await task.delete(force=True)
        finally:
            await self.starting.close(container)
            bundle.remove(self.starting.run, container.id)

    async def _start_failed(self, container: Container, error: Exception) -> None:
        code = error.exit_code if isinstance(error, CannotRun | EndedEarly) else OTHER_FAILURE
        message = str(_as_docker_says(error))
        state = states.start_failed(container.state, code=code, error=message)
        container = self.records.put(replace(container, state=state))
        self.attachments.abandon(container.id)
        response = _exit_of(container)
        self.live.tell_exit(container.id, response)
        self.live.tell_stop(container.id, response)
        if container.host.auto_remove:
            await self.erase(container, volumes=True)

    # -- stop ----------------------------------------------------------------------------------------------

    async def stop(self, text: str, *, signal: str = "", timeout: int | None = None) -> None:
        """timeout: seconds, -1 for ever, None its own. NotModified if it does not run."""
        container = self.records.find(text)
        if not container.state.running:
            raise NotModified(f"container {container.id} is already stopped")
        try:
            number = signal_number(signal or container.config.stop_signal or "SIGTERM")
        except InvalidParameter as error:
            raise InvalidParameter(f"cannot stop container: {text}: {error}") from None
        if timeout is None:
            own = container.config.stop_timeout
            timeout = self.stop_timeout if own is UNSET else own
        if not await self._mark_stopped(container.id):
            return
        await self._end(container.id, number, timeout)
        if container.id in self.records:
            self.announce(self.records.get(container.id), "stop")

    async def _mark_stopped(self, id: str) -> bool:
        """True if there is a task to stop; a restart that was due is called off. NotModified."""
        async with self.live.locks[id]:
            container = self.records.get(id)
            if not container.state.running:
                raise NotModified(f"container {id} is already stopped")
            container = replace(container, stopped_by_user=True)
            if self.live.cancel_restart(id) or container.state.restarting:
                container = replace(container, state=states.no_longer_restarting(container.state))
                self.records.put(container)
                self.live.tell_stop(id, WaitResponse(status_code=container.state.exit_code))
                return False
            self.records.put(container)
            return True

    async def _end(self, id: str, number: int, timeout: float) -> None:
        exit = self.live.next_exit(id)
        try:
            await self._signal(id, number)
            try:
                await asyncio.wait_for(asyncio.shield(exit), None if timeout < 0 else timeout)
            except TimeoutError:
                await self._signal(id, signals.SIGKILL)
                await exit
        finally:
            exit.cancel()

    async def _signal(self, id: str, number: int) -> None:
        """Signal init; a paused one is woken, since a frozen process cannot die. Gone already is fine."""
        task = self.live.tasks.get(id)
        if task is None:
            return
        self.announce(self.records.get(id), "kill", signal=str(number))
        try:
            await task.signal(number)
            if self.records.get(id).state.paused:
                await task.thaw()
        except (Conflict, NotFound):
            return  # its exit is on the way

    async def kill(self, text: str, *, signal: str = "") -> None:
        """Conflict if it does not run. signal: empty for SIGKILL."""
        what = f"cannot kill container: {text}"
        try:
            container = self.records.find(text)
            number = signal_number(signal) if signal else int(signals.SIGKILL)
        except (NotFound, InvalidParameter) as error:
            raise type(error)(f"{what}: {error}") from None
        id = container.id
        states.require_running(container.state, id, what)
        exit = self.live.next_exit(id)
        try:
            async with self.live.locks[id]:
                container = self.records.get(id)
                states.require_running(container.state, id, what)
                own = signal_number(container.config.stop_signal or "SIGTERM")
                if number in (signals.SIGKILL, own):
                    self.records.put(replace(container, stopped_by_user=True))
                await self._signal(id, number)
            if number == signals.SIGKILL:
                await asyncio.wait_for(asyncio.shield(exit), KILL_PATIENCE)
        except TimeoutError:
            raise SkiffError(f"{what}: it did not exit in {KILL_PATIENCE:.0f}s") from None
        finally:
            exit.cancel()

    async def restart(self, text: str, *, signal: str = "", timeout: int | None = None) -> None:
        container = self.records.find(text)
        id = container.id
        try:  # as in Docker, it is nothing to a container that is down
            number = str(int(signal_number(signal))) if signal and container.state.running else ""
        except InvalidParameter as error:
            raise InvalidParameter(f"Cannot restart container {text}: {error}") from None
        with self.live.keeping(id):
            try:
                await self.stop(id, signal=number, timeout=timeout)
            except NotModified:
                pass  # it is down: only the second half is left
            await self.start(id)
        self.announce(self.records.get(id), "restart")

    # -- pause, rename, resize, update -----------------------------------------------------------------------

    async def pause(self, text: str) -> None:
        id = self.records.find(text).id
        async with self.live.locks[id]:
            container = self.records.get(id)
            state = states.paused(container.state, id)
            await self.live.task(id).freeze()
            self.announce(self.records.put(replace(container, state=state)), "pause")

    async def unpause(self, text: str) -> None:
        id = self.records.find(text).id
        async with self.live.locks[id]:
            container = self.records.get(id)
            state = states.unpaused(container.state, id)
            await self.live.task(id).thaw()
            self.announce(self.records.put(replace(container, state=state)), "unpause")

    async def rename(self, text: str, name: str) -> None:
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self.records.find(text)
        bare = name.removeprefix("/")
        async with self.live.locks[container.id]:
            container = self.records.get(container.id)
            if container.name == bare:
                raise InvalidParameter("Renaming a container with the same name as its current name")
            try:
                with self.records.reserved(merge.check_name(f"/{bare}"), container.id):
                    renamed = self.records.put(replace(container, name=bare))
            except (InvalidParameter, Conflict) as error:
                raise type(error)(f"Error when allocating new name: {error}") from None
            self.sandboxes.renamed(renamed)
            self.announce(renamed, "rename", oldName=f"/{container.name}")

    async def resize(self, text: str, *, rows: int, columns: int) -> None:
        container = self.records.find(text)
        states.require_running(container.state, container.id)
        if container.config.tty:  # without a terminal there is nothing to do, and Docker says so to nobody
            await self.live.task(container.id).resize(rows, columns)
        self.announce(container, "resize", height=str(rows), width=str(columns))

    async def update(self, text: str, wish: ContainerUpdate) -> UpdateResponse:
        """Limits and the restart policy; a field left at its default stays as it is."""
        id = self.records.find(text).id
        async with self.live.locks[id]:
            container = self.records.get(id)
            if container.state.status == "removing":
                raise Conflict(f"cannot update container {id}: container is marked for removal")
            _check_updatable(wish)
            host = _updated(container.host, limits.possible(wish, self.machine))
            restart.check(host.restart_policy)
            if wish.restart_policy.name and container.host.auto_remove:
                raise Conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container"
                )
            limits.check(host, self.machine, updating=True)
            warnings = limits.check(wish, self.machine, updating=True)
            if container.state.running and not container.state.restarting:
                await self.live.task(id).update(limits.resources(host, self.machine))
            if host.pids_limit is not None and host.pids_limit < 0:  # lifted now: later there is none
                host = replace(host, pids_limit=0)
            self.announce(self.records.put(replace(container, host=host)), "update")
        return UpdateResponse(warnings=tuple(warnings) or None)

    # -- wait, remove ----------------------------------------------------------------------------------------

    def wait(self, text: str, condition: WaitCondition = "not-running") -> Awaitable[WaitResponse]:
        """Looks up at once (NotFound), so that the door can send its headers; then await the answer."""
        container = self.records.find(text)
        if condition == "removed":
            return self.live.removal(container.id)
        if condition == "next-exit":
            return self.live.next_exit(container.id)
        waiter = self.live.next_down(container.id)
        if not container.state.running:
            waiter.set_result(_exit_of(container))
        return waiter

    async def remove(
        self, text: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """volumes: its anonymous ones go too. Conflict while it runs, unless force."""
        if link:
            if text.strip("/").count("/") == 0 and self.records.find(text).name == text.strip("/"):
                raise InvalidParameter("Conflict, cannot remove the default link name of the container")
            self.records.put(self.sandboxes.unlinked(text))
            return
        container = self.records.find(text)
        id = container.id
        if container.state.status == "removing":
            raise Conflict(f"removal of container {text} is already in progress")
        if container.state.running:
            if not force:
                raise Conflict(_not_removable(container))
            await self._end_for_removal(id)
        async with self.live.locks[id]:
            if id not in self.records:
                return
            container = self.records.get(id)
            if container.state.running:
                raise Conflict(_not_removable(container))
            await self.erase(container, volumes=volumes)

    async def _end_for_removal(self, id: str) -> None:
        with self.live.keeping(id):
            try:
                if await self._mark_stopped(id):
                    await self._end(id, signals.SIGKILL, -1)
            except (NotModified, NotFound):
                return  # it ended by itself, perhaps to be removed

    async def erase(self, container: Container, *, volumes: bool) -> None:
        """With the lock held, and nothing running: everything of it goes, or is kept for its grace.

        The row goes last. A crash between leaves a row without a snapshot; the next boot goes on from there.
        """
        id = container.id
        self.live.cancel_restart(id)
        await self.sandboxes.forget(container)
        with self.kept.bin.act():
            lost = not self.kept.keep(container)
            if lost:
                try:
                    self.snapshots.remove(SnapshotKey(id))
                except NotFound:
                    pass  # an earlier attempt came as far as this
                self.trash.discard(self.starting.data.container(id))
                self.kept.forgotten(id)
            self.records.delete(id)
            for name in container.anonymous if volumes else ():
                try:
                    await self.volumes.remove(name, force=True, lost=lost)
                except Conflict:
                    pass  # another container took it over by volumes-from
        self.attachments.abandon(id)
        self.announce(container, "destroy")
        self.live.tell_removal(id, WaitResponse(status_code=container.state.exit_code))

    async def prune(self, filters: Filters, *, dry_run: bool = False) -> ContainersPruneReport:
        """Filters: until, label, label!. dry_run: only tell what would go."""
        with self.kept.bin.act():
            return await self._prune(filters, dry_run)

    async def _prune(self, filters: Filters, dry_run: bool) -> ContainersPruneReport:
        now = time.time_ns()
        until = min((units.parse_time(text, now) for text in filters.values("until")), default=now)
        deleted: list[str] = []
        freed = 0
        for container in self.records:
            state = container.state
            if state.running or container.created_ns > until or not filters.labels(container.config.labels):
                continue
            size = await asyncio.to_thread(self._size, container.id)
            try:
                if not dry_run:
                    await self.remove(container.id)
            except (Conflict, NotFound):
                continue  # started or removed meanwhile
            deleted.append(container.id)
            freed += size
        if not dry_run:
            self.announce.pruned(freed)
        return ContainersPruneReport(containers_deleted=tuple(deleted) or None, space_reclaimed=freed)

    def _size(self, id: str) -> int:
        try:
            return written(self.snapshots, id)
        except NotFound:
            return 0


def _not_removable(container: Container) -> str:
    state = container.state
    prefix = f'cannot remove container "{container.name}": container is '
    if state.paused:
        return prefix + "paused and must be unpaused first"
    what = "restarting" if state.restarting else "running"
    return f"{prefix}{what}: stop the container before removing or force remove"


def _exit_of(container: Container) -> WaitResponse:
    """How it ended, and why it did not even begin."""
    state = container.state
    error = WaitError(message=state.error) if state.error else UNSET
    return WaitResponse(status_code=state.exit_code, error=error)


def _as_docker_says(error: Exception) -> SkiffError:
    if isinstance(error, RuntimeFailure):
        return RuntimeFailure(START_FAILED + str(error), step=error.step, errno=error.errno)
    if isinstance(error, SkiffError):
        return error
    where = f": {os.fsdecode(error.filename)}" if isinstance(error, OSError) and error.filename else ""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SkiffError(f"{START_FAILED}{reason}{where}")


def _check_updatable(wish: ContainerUpdate) -> None:
    """Docker accepts these and does nothing. InvalidParameter."""
    blank = Resources()
    for name, wire_name in zip(Resources.__struct_fields__, Resources.__struct_encode_fields__, strict=True):
        value = getattr(wish, name)
        if name in MADE_ONCE and value and value != getattr(blank, name):
            raise InvalidParameter(f"{wire_name} of a container cannot be updated: create another one")
    if wish.init:
        raise InvalidParameter("Init of a container cannot be updated: create another one")


def _updated(host: HostConfig, wish: ContainerUpdate) -> HostConfig:
    """Docker: what is zero in the request is left as it was, but for a limit of processes: that is lifted."""
    blank = Resources()
    if wish.pids_limit is not None and wish.pids_limit <= 0:
        wish = replace(wish, pids_limit=-1)
    changes: dict[str, object] = {}
    for name in Resources.__struct_fields__:
        value = getattr(wish, name)
        if value is not UNSET and value is not None and value != getattr(blank, name):
            changes[name] = value
    if "nano_cpus" in changes and not (wish.cpu_quota or wish.cpu_period):
        changes.update(cpu_quota=0, cpu_period=0)
    if (
        wish.memory
        and host.memory_swap > 0
        and "memory_swap" not in changes
        and wish.memory > host.memory_swap
    ):
        raise InvalidParameter(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the "
            "same time"
        )
    if wish.restart_policy.name:
        changes["restart_policy"] = wish.restart_policy
    return replace(host, **changes)
