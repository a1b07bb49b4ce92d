"""A container's changes as a new image. Engine API, ImageCommit."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Protocol

from msgspec import UNSET

from skiff.docker.container import ContainerConfig
from skiff.engine.containers import ground
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.changed import changed
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.spec import merge
from skiff.engine.execution.runtime import Task
from skiff.engine.images import changes as change_lines
from skiff.engine.images.derive import Deriver
from skiff.engine.storage.snapshots import Snapshotter
from skiff.errors import Conflict, InvalidParameter
from skiff.oci.digest import ImageID
from skiff.oci.image import Healthcheck, RunConfig
from skiff.oci.reference import Reference, parse


class Namer(Protocol):
    async def name(self, id: ImageID, reference: Reference) -> None:
        """Give an image a name, taking it from whoever had it."""
        ...

    def is_host(self, name: str) -> bool:
        """Whether an image's name means this machine."""
        ...


class Commits:
    def __init__(
        self,
        *,
        records: Records,
        live: Live,
        snapshots: Snapshotter,
        deriver: Deriver,
        namer: Namer,
        announce: Announcer,
        tmp: str,
    ) -> None:
        """tmp: a directory on the snapshots' file system."""
        self.records = records
        self.live = live
        self.snapshots = snapshots
        self.deriver = deriver
        self.namer = namer
        self.announce = announce
        self.tmp = tmp

    async def commit(
        self,
        name: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        comment: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: ContainerConfig | None = None,
    ) -> ImageID:
        """The new image. config: what the client wants otherwise. NotFound, InvalidParameter, Conflict."""
        container = self.records.find(name)
        if container.wish == "removing":
            raise Conflict(f"You cannot commit container {container.id} which is Removing")
        if self.namer.is_host(container.config.image):
            raise Conflict(
                "conflict: the image host is this machine: a container of it cannot become an image. "
                "Export it, or build FROM an image"
            )
        reference = _reference(repository, tag)
        theirs = _run_config(container.config)
        run = theirs if config is None else _run_config(merge.merged(config, theirs))
        run = change_lines.apply(run, changes)
        async with self._still(container, pause):
            id = await self._derived(container, run, author=author, comment=comment)
        if reference:
            await self.namer.name(id, reference)
        self.announce(
            container,
            "commit",
            comment=comment,
            imageID=id,
            imageRef=reference.familiar if reference else "",
        )
        return id

    async def _derived(self, container: Container, run: RunConfig, *, author: str, comment: str) -> ImageID:
        with ExitStack() as stack:
            merged = changed(self.snapshots, container.id, self.tmp)
            upper, lowers = await asyncio.to_thread(stack.enter_context, merged)
            if not lowers:
                raise InvalidParameter("a container whose layers are not stacked cannot be committed")
            ours = await asyncio.to_thread(ground.unchanged_ground, upper, lowers)
            return await self.deriver.derive(
                container.image,
                upper,
                run,
                without=ours,
                author=author,
                comment=comment,
                created_by=" ".join(container.config.cmd or ()),
            )

    @asynccontextmanager
    async def _still(self, container: Container, pause: bool) -> AsyncIterator[None]:
        """Its processes stand still meanwhile; those that somebody paused stay paused."""
        task = self.live.tasks.get(container.id)
        if task is None or not pause or container.state.paused:
            yield
            return
        async with self.live.locks[container.id]:
            try:
                await task.freeze()
            except Conflict:  # it has just ended, and stands still for good
                yield
                return
            try:
                yield
            finally:
                await self._go_on(task)

    async def _go_on(self, task: Task) -> None:
        try:
            await task.thaw()
        except Conflict:
            return  # killed while it stood still


def _reference(repository: str, tag: str) -> Reference | None:
    if not repository:
        return None
    found = parse(repository)
    if found.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    return found.with_tag(tag) if tag else found.tagged()


def _run_config(config: ContainerConfig) -> RunConfig:
    health = config.healthcheck
    check = None
    if health is not UNSET:
        check = Healthcheck(
            test=tuple(health.test or ()),
            interval=health.interval or 0,
            timeout=health.timeout or 0,
            start_period=health.start_period or 0,
            start_interval=health.start_interval or 0,
            retries=health.retries or 0,
        )
    return RunConfig(
        user=config.user,
        exposed_ports=config.exposed_ports or None,
        env=config.env,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        volumes=config.volumes,
        working_dir=config.working_dir,
        labels=config.labels,
        stop_signal=config.stop_signal or "",
        stop_timeout=config.stop_timeout if config.stop_timeout is not UNSET else None,
        healthcheck=check,
        on_build=config.on_build,
        shell=config.shell or None,
    )
