"""A Containers service on fakes and one image. `async with Room(tmp_path) as room`."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from skiff.docker import wire
from skiff.docker.container import ContainerCreate
from skiff.docker.event import Event
from skiff.docker.volume import Volume
from skiff.engine.containers.record import Container
from skiff.engine.containers.service import Containers
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec.limits import Machine
from skiff.engine.containers.starting import HostFacts
from skiff.engine.execution import defaults
from skiff.engine.images.record import Image
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.state import MemoryState
from skiff.errors import NotFound
from skiff.oci.digest import ImageID
from skiff.oci.image import ImageConfig, RootFS, RunConfig
from skiff.paths import DataPaths, RunPaths
from tests.fakes.fake_runtime import FakeRuntime
from tests.fakes.memory_snapshots import MemorySnapshots

BUSYBOX = Image(
    id=ImageID("sha256:" + "1" * 64),
    config=ImageConfig(
        architecture="amd64",
        os="linux",
        rootfs=RootFS(),
        config=RunConfig(cmd=("sh",), env=("PATH=/bin", "A=image"), labels={"from": "image"}),
    ),
    chain=None,
    name="busybox:latest",
)


class OneImage:
    async def resolve(self, name: str) -> Image:
        if name not in ("busybox", "busybox:latest"):
            raise NotFound(f"No such image: {name if ':' in name else name + ':latest'}")
        return BUSYBOX


class MemoryVolumes:
    def __init__(self) -> None:
        self.volumes: dict[str, Volume] = {}
        self.users: dict[str, set[str]] = {}

    async def ensure(self, name: str, *, driver: str = "", labels: Any = None, options: Any = None) -> Volume:
        name = name or f"{len(self.volumes):064x}"
        found = Volume(name=name, mountpoint=f"/volumes/{name}", labels=labels)
        return self.volumes.setdefault(name, found)

    async def open(self, name: str, user: str) -> str:
        self.users.setdefault(name, set()).add(user)
        return self.volumes[name].mountpoint

    async def close(self, name: str, user: str) -> None:
        self.users.get(name, set()).discard(user)

    async def fill(self, name: str, source: str) -> None:
        """Nothing is in the image."""

    async def remove(self, name: str, *, force: bool = False, lost: bool = False) -> None:
        self.volumes.pop(name, None)


class Room:
    """Make another one with the same parts for an engine that was killed and started again."""

    def __init__(
        self,
        path: Path,
        earlier: "Room | None" = None,
        *,
        keeping: bool = False,
        state: Any = None,
        snapshots: Any = None,
        **settings: Any,
    ) -> None:
        self.path = path
        self.state: MemoryState = state or (earlier.state if earlier else MemoryState())
        self.runtime: FakeRuntime = earlier.runtime if earlier else FakeRuntime()
        self.snapshots: MemorySnapshots = snapshots or (earlier.snapshots if earlier else MemorySnapshots())
        self.volumes: MemoryVolumes = earlier.volumes if earlier else MemoryVolumes()
        self.events: list[Event] = []
        self.bin = Bin(self.state, keeping=keeping)
        self.containers = Containers(
            state=self.state,
            snapshots=self.snapshots,
            images=OneImage(),
            volumes=self.volumes,
            runtime=self.runtime,
            data=DataPaths(str(path / "data")),
            run=RunPaths(str(path / "run")),
            publish=self.events.append,
            settings=ContainerSettings(**settings),
            limits=Machine(cpus="0-1", cpu_count=2),
            host=HostFacts("x86_64", (6, 1)),
            capabilities=defaults.CAPABILITIES,
            bin=self.bin,
        )
        self.life = self.containers.lifecycle

    async def __aenter__(self) -> "Room":
        self._running = asyncio.create_task(self.containers.run())
        await self.containers.ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running

    async def create(self, *command: str, name: str = "", host: Any = None, **config: Any) -> str:
        """The id of a container of busybox."""
        body = {"Image": "busybox", "Cmd": list(command) or None, **config, "HostConfig": host or {}}
        return (await self.containers.creation.create(wire.convert(body, ContainerCreate), name=name)).id

    async def run(self, *command: str, **wish: Any) -> str:
        id = await self.create(*command, **wish)
        await self.life.start(id)
        return id

    def record(self, id: str) -> Container:
        return self.containers.records.get(id)

    @property
    def actions(self) -> list[str]:
        return [event.action for event in self.events]
