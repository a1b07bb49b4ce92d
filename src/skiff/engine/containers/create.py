"""From a wish and an image to a container: record, snapshot, volumes, warnings.

The snapshot is made before the record is stored: a crash between leaves a snapshot that no record owns, which
the next boot removes (supervisor).
"""

import os
import secrets
import socket
import time
from typing import Protocol

from msgspec.structs import replace

from skiff.docker.container import ContainerConfig, ContainerCreate, CreateResponse, HostConfig
from skiff.docker.signals import signal_number
from skiff.engine.containers import layers, naming
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.ground import lay
from skiff.engine.containers.networking import Sandboxes
from skiff.engine.containers.record import Container, ContainerID, Records
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec import limits, merge, mounts
from skiff.engine.containers.spec.mounts import MountPlan
from skiff.engine.containers.volumes import Volumes
from skiff.engine.images.record import Image
from skiff.engine.networks import egress
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import InvalidParameter, NotFound
from skiff.oci.platform import parse as parse_platform


class ImageSource(Protocol):
    async def resolve(self, name: str) -> Image:
        """NotFound: `No such image: x:latest`."""
        ...


class Creation:
    def __init__(
        self,
        *,
        records: Records,
        images: ImageSource,
        snapshots: Snapshotter,
        volumes: Volumes,
        sandboxes: Sandboxes,
        settings: ContainerSettings,
        machine: limits.Machine,
        announce: Announcer,
    ) -> None:
        self.records = records
        self.images = images
        self.snapshots = snapshots
        self.volumes = volumes
        self.sandboxes = sandboxes
        self.settings = settings
        self.machine = machine
        self.announce = announce

    async def create(self, wish: ContainerCreate, *, name: str = "", platform: str = "") -> CreateResponse:
        """A container that does not run yet. name: empty makes one up.

        NotFound (image), Conflict (name), InvalidParameter. Engine API, ContainerCreate.
        """
        asked = wish.host_config
        if wish.runtime and not asked.runtime:
            asked = replace(asked, runtime=wish.runtime)
        policy = (wish.labels or {}).get(egress.OPTION)  # the client's: an image has no say in this
        if policy and not asked.egress:
            asked = replace(asked, egress=policy)
        if wish.network_disabled:
            asked = replace(asked, network_mode="none")
        host = merge.with_defaults(asked, self.settings)
        merge.check_config(wish)
        merge.check_host(wish, host, self.settings)
        warnings = limits.check(host, self.machine)
        host = limits.possible(host, self.machine)
        if wish.stop_signal:
            signal_number(wish.stop_signal)
        if not wish.image:
            raise InvalidParameter("no command specified")
        image = await self.images.resolve(wish.image)
        _check_platform(wish.image, image, platform)
        config = merge.merged(wish, image.config.run)
        merge.check_config(config)
        host = self._with_ids(host)
        id = ContainerID(secrets.token_hex(32))
        bare = merge.check_name(name) if name else ""
        if not bare:
            bare = naming.name(lambda taken: self.records.holder(taken) is not None)
        with self.records.reserved(bare, id):
            record = self._record(id, bare, config, host, wish, image)
            warnings += self.sandboxes.warnings(record)
            record = await self._furnish(record)
            self.records.put(record)
            self.sandboxes.join(record)
        self.announce(record, "create")
        return CreateResponse(id=id, warnings=tuple(warnings))

    def _record(
        self,
        id: ContainerID,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        wish: ContainerCreate,
        image: Image,
    ) -> Container:
        hostname = config.hostname
        if not hostname and (host.network_mode == "host" or host.uts_mode == "host"):
            hostname = socket.gethostname()
        if host.network_mode.startswith("container:"):
            hostname = self._hostname_of(host.network_mode.partition(":")[2])
        config = replace(config, hostname=hostname or id[:12])
        command = merge.command(config)
        return Container(
            id=id,
            name=name,
            created_ns=time.time_ns(),
            image=image.id,
            chain=image.chain,
            path=command[0],
            args=command[1:],
            config=config,
            host=host,
            networking=wish.networking_config,
            mounts=mounts.plans(host, config.volumes or {}, self._inherited(host)),
            driver=self.snapshots.driver,
        )

    def _hostname_of(self, text: str) -> str:
        """Who shares a network shares its name; a container that is not there is told at the start."""
        try:
            return self.records.find(text).config.hostname
        except NotFound:
            return ""

    async def _furnish(self, record: Container) -> Container:
        """Snapshot and volumes; all of it or nothing but volumes with a name."""
        key = SnapshotKey(record.id)
        self.snapshots.prepare(key, record.chain, volatile=record.host.auto_remove)
        anonymous: list[str] = []
        try:
            lay(self.snapshots.directory(key), self.snapshots.lowers(key))
            planned = []
            for plan in record.mounts:
                if plan.type == "bind":
                    _check_source(plan)
                if plan.type == "volume":
                    plan = await self._volume(record, plan, anonymous)
                planned.append(plan)
        except BaseException:
            self.snapshots.remove(key)
            for volume in anonymous:
                await self.volumes.remove(volume, force=True, lost=True)
            raise
        return replace(record, mounts=tuple(planned), anonymous=tuple(anonymous))

    async def _volume(self, record: Container, plan: MountPlan, anonymous: list[str]) -> MountPlan:
        volume = await self.volumes.ensure(
            plan.name, driver=plan.driver, labels=plan.labels, options=plan.driver_options
        )
        if not plan.name:
            anonymous.append(volume.name)
        if plan.copies:
            await self._first_content(record, volume.name, plan.destination)
        return replace(plan, name=volume.name, source=volume.mountpoint, driver=volume.driver)

    async def _first_content(self, record: Container, volume: str, destination: str) -> None:
        key = SnapshotKey(record.id)
        stack = self.snapshots.lowers(key) or [self.snapshots.directory(key)]
        with layers.directory(stack, destination) as path:
            if path is not None:
                await self.volumes.fill(volume, path)

    def _inherited(self, host: HostConfig) -> list[MountPlan]:
        plans: list[MountPlan] = []
        for text in host.volumes_from or ():
            name, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidParameter(f"invalid mode: {mode}")
            try:
                theirs = self.records.find(name).mounts
            except NotFound as error:  # a client takes a 404 for an image that is not here, and pulls
                raise InvalidParameter(str(error)) from None
            for plan in theirs:
                if not plan.hidden:
                    plans.append(replace(plan, rw=plan.rw and mode != "ro", copies=False))
        return plans

    def _with_ids(self, host: HostConfig) -> HostConfig:
        """`container:NAME` as `container:ID`: a name may change hands."""
        changes = {}
        for field in ("ipc_mode", "pid_mode", "network_mode"):
            kind, colon, text = getattr(host, field).partition(":")
            if kind == "container" and colon:
                try:
                    changes[field] = f"container:{self.records.find(text).id}"
                except NotFound:
                    if field != "network_mode":
                        raise InvalidParameter(f"No such container: {text}") from None
        return replace(host, **changes) if changes else host


def _check_platform(name: str, image: Image, platform: str) -> None:
    """NotFound when another one is asked for than the image is of."""
    if not platform:
        return
    asked = parse_platform(platform, image.config.platform)
    has = image.config.platform
    if (asked.os, asked.architecture) != (has.os, has.architecture):
        raise NotFound(
            f"image with reference {name} was found but its platform ({has}) does not match the "
            f"specified platform ({asked})"
        )


def _check_source(plan: MountPlan) -> None:
    """A bind of Mounts must exist; one of Binds is made as a directory, as Docker does."""
    if os.path.lexists(plan.source):
        return
    if not plan.made:
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {plan.source}'
        )
