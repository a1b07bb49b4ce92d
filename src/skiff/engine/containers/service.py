"""The container noun, put together: which small services there are, and what they share.

Each service does its part and forwards nothing; the door calls them directly.
"""

import asyncio
from collections.abc import Callable

from skiff.docker.event import Event
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.attach import Attachments
from skiff.engine.containers.create import Creation, ImageSource
from skiff.engine.containers.execs import Execs
from skiff.engine.containers.files import Files
from skiff.engine.containers.health import Probes
from skiff.engine.containers.host import available_capabilities, facts, machine
from skiff.engine.containers.kept import KeptContainers
from skiff.engine.containers.lifecycle import Lifecycle
from skiff.engine.containers.live import Live
from skiff.engine.containers.logs import Logs
from skiff.engine.containers.networking import PlainSandboxes, Sandboxes
from skiff.engine.containers.ports import Ports
from skiff.engine.containers.record import Records
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec.limits import Machine
from skiff.engine.containers.starting import HostFacts, Starting, machine_ground
from skiff.engine.containers.stats import Stats
from skiff.engine.containers.supervisor import Supervisor
from skiff.engine.containers.top import Top
from skiff.engine.containers.trash import Trash
from skiff.engine.containers.views import Ancestors, Views
from skiff.engine.containers.visiting.visits import Visitor
from skiff.engine.containers.volumes import Volumes
from skiff.engine.execution.runtime import Runtime
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import MemoryState, StateStore
from skiff.paths import DataPaths, RunPaths


class Containers:
    """Built by assembly. `run()` first reconciles with what runs already, sets `ready`, then supervises.

    records: given when networks or volumes were built on them before; else they are read from the state.
    bin: where removed containers are kept; without one nothing is.
    ancestors: the ids of an image and of those built upon it, for the filter of that name.
    """

    def __init__(
        self,
        *,
        state: StateStore,
        snapshots: Snapshotter,
        images: ImageSource,
        volumes: Volumes,
        runtime: Runtime,
        data: DataPaths,
        run: RunPaths,
        publish: Callable[[Event], None],
        settings: ContainerSettings,
        bin: Bin | None = None,
        records: Records | None = None,
        sandboxes: Sandboxes | None = None,
        ancestors: Ancestors = lambda name: set(),
        limits: Machine | None = None,
        host: HostFacts | None = None,
        capabilities: tuple[str, ...] | None = None,
    ) -> None:
        here = limits or machine()
        self.announce = announce = Announcer(publish)
        self.ready = asyncio.Event()
        self.records = records if records is not None else Records(state)
        self.live = Live()
        self.sandboxes: Sandboxes = sandboxes or PlainSandboxes(lambda id: self.pid_of(id))
        self.ground = machine_ground(
            settings, here, available_capabilities() if capabilities is None else capabilities
        )
        self.trash = Trash(data, snapshots.sweep)
        self.kept = KeptContainers(
            bin=Bin(MemoryState(), keeping=False) if bin is None else bin,
            records=self.records,
            snapshots=snapshots,
            sandboxes=self.sandboxes,
            data=data,
            discard=self.trash.discard,
            announce=announce,
        )
        self.logs = Logs(records=self.records, live=self.live, data=data)
        self.attachments = Attachments(
            records=self.records, live=self.live, logs=self.logs, announce=announce
        )
        self.creation = Creation(
            records=self.records,
            images=images,
            snapshots=snapshots,
            volumes=volumes,
            sandboxes=self.sandboxes,
            settings=settings,
            machine=here,
            announce=announce,
        )
        self.starting = Starting(
            records=self.records,
            live=self.live,
            runtime=runtime,
            snapshots=snapshots,
            sandboxes=self.sandboxes,
            volumes=volumes,
            data=data,
            run=run,
            settings=settings,
            ground=self.ground,
            facts=host or facts(),
        )
        self.execs = Execs(
            records=self.records,
            live=self.live,
            starting=self.starting,
            ground=self.ground,
            announce=announce,
        )
        self.visitor = Visitor()
        self.files = Files(
            records=self.records,
            live=self.live,
            snapshots=snapshots,
            volumes=volumes,
            starting=self.starting,
            data=data,
            announce=announce,
            visitor=self.visitor,
        )
        self.probes = Probes(records=self.records, run=self.execs.probe, announce=announce)
        self.lifecycle = Lifecycle(
            records=self.records,
            live=self.live,
            starting=self.starting,
            attachments=self.attachments,
            snapshots=snapshots,
            sandboxes=self.sandboxes,
            volumes=volumes,
            trash=self.trash,
            kept=self.kept,
            announce=announce,
            machine=here,
            stop_timeout=settings.stop_timeout,
            probes=self.probes,
        )
        self.ports = Ports(self.records, self.live, self.sandboxes)
        self.top = Top(records=self.records, live=self.live, announce=announce)
        self.stats = Stats(records=self.records, live=self.live, ground=self.ground)
        self.views = Views(
            records=self.records,
            sandboxes=self.sandboxes,
            snapshots=snapshots,
            data=data,
            execs_of=self.execs.of_container,
            ancestors=ancestors,
        )
        self.supervisor = Supervisor(
            records=self.records,
            live=self.live,
            runtime=runtime,
            lifecycle=self.lifecycle,
            probes=self.probes,
            announce=announce,
        )

    async def run(self) -> None:
        """Until cancelled. Containers go on without it."""
        await self.supervisor.reconcile()
        self.ready.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supervisor.run())
            group.create_task(self.execs.run())
            group.create_task(self.trash.run())

    def pid_of(self, id: str) -> int:
        """The host pid of its init. NotFound; Conflict if it does not run."""
        return self.live.task(self.records.get(id).id).pid
