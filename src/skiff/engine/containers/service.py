"""The container noun, put together: which small services there are, and what they share.

Each service does its part and forwards nothing; the door calls them directly.
"""

import asyncio
from collections.abc import Callable

from skiff.docker.event import Event
from skiff.engine.containers.attach import Attachments
from skiff.engine.containers.create import Creation, ImageSource
from skiff.engine.containers.execs import Execs
from skiff.engine.containers.lifecycle import Lifecycle
from skiff.engine.containers.logs import Logs
from skiff.engine.containers.networking import Sandboxes
from skiff.engine.containers.record import Records
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.stats import Stats
from skiff.engine.containers.supervisor import Supervisor
from skiff.engine.containers.top import Top
from skiff.engine.containers.views import Views
from skiff.engine.containers.volumes import Volumes
from skiff.engine.execution.runtime import Runtime
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import StateStore
from skiff.paths import DataPaths, RunPaths


class Containers:
    """Built by assembly. `run()` first reconciles with what runs already, sets `ready`, then supervises.

    sandboxes: a function of the records and of `task(id)`, so that networks can find who shares a namespace.
    """

    records: Records
    creation: Creation
    lifecycle: Lifecycle
    attachments: Attachments
    execs: Execs
    logs: Logs
    top: Top
    stats: Stats
    views: Views
    supervisor: Supervisor
    ready: asyncio.Event

    def __init__(
        self,
        *,
        state: StateStore,
        snapshots: Snapshotter,
        images: ImageSource,
        volumes: Volumes,
        sandboxes: Sandboxes | None = None,
        runtime: Runtime,
        data: DataPaths,
        run: RunPaths,
        publish: Callable[[Event], None],
        settings: ContainerSettings,
    ) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Until cancelled. Containers go on without it."""
        raise NotImplementedError
