"""The composition root: the only place that names implementations and says who is built from what."""

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime

from skiff.docker.container_view import ContainerSummary
from skiff.docker.network import NetworkContainer
from skiff.engine.api import versions
from skiff.engine.api.absent import AbsentRoutes
from skiff.engine.api.app import App
from skiff.engine.api.networks import NetworkRoutes, predefined
from skiff.engine.api.system import SystemRoutes
from skiff.engine.api.volumes import VolumeRoutes
from skiff.engine.settings import Settings
from skiff.engine.storage.state import SqliteState
from skiff.engine.system import info
from skiff.engine.system.events import EventBus
from skiff.engine.system.usage import Usage
from skiff.engine.volumes.local import LocalDriver
from skiff.engine.volumes.service import Volumes
from skiff.paths import DataPaths, RunPaths

log = logging.getLogger(__name__)


class Live:
    """The settings as they are now; SIGHUP swaps them and tells the watchers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.watchers: list[Callable[[Settings], None]] = []

    def reloaded(self) -> None:
        for watcher in self.watchers:
            watcher(self.settings)


class Engine:
    """What the daemon drives: `app` answers, `run` works in the background, `close` ends it."""

    def __init__(self, app: App, state: SqliteState) -> None:
        self.app = app
        self.state = state
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. `ready` is set once what ran before has been taken over."""
        self.ready.set()
        await asyncio.Event().wait()

    def close(self) -> None:
        self.state.close()


def assemble(live: Live) -> Engine:
    """Everything, from settings. Called once, within the running loop."""
    settings = live.settings
    data, run = DataPaths(settings.data_root), RunPaths(settings.exec_root)
    os.makedirs(data.tmp, mode=0o700, exist_ok=True)
    state = SqliteState(str(data.state))
    bus = EventBus()
    engine_id = info.engine_id(data)

    def publish(kind: str) -> Callable[[str, str, object], None]:
        return lambda action, actor, attributes: bus.tell(kind, action, actor, attributes)  # type: ignore[arg-type]

    volumes = Volumes(state, [LocalDriver(data)], users=lambda name: [], publish=publish("volume"))
    about = info.Info(
        engine_id=engine_id,
        host=info.host(),
        settings=lambda: live.settings,
        driver="overlay2",
        driver_status=[],
        api_versions=(versions.API_VERSION, versions.MIN_API_VERSION),
        counts=lambda: info.Counts(listeners=bus.listeners),
    )

    async def nothing() -> list[ContainerSummary]:
        return []

    async def zero() -> int:
        return 0

    usage = Usage(layers=zero, images=nothing, containers=nothing, volumes=volumes.usage)  # type: ignore[arg-type]

    def members(network: str) -> dict[str, NetworkContainer]:
        return {}

    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    app = App(
        (
            SystemRoutes(about, bus, usage),
            VolumeRoutes(volumes),
            NetworkRoutes(predefined(created, engine_id.replace("-", "")), members),
            AbsentRoutes(),
        )
    )
    return Engine(app, state)
