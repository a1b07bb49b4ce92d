"""start, stop, kill, restart, pause, rename, update, wait, remove: one verb each, under a lock per container."""

from collections.abc import Awaitable
from typing import Literal

from skiff.docker.container import ContainerUpdate, UpdateResponse
from skiff.docker.container_view import ContainersPruneReport, WaitResponse
from skiff.docker.filters import Filters

WaitCondition = Literal["not-running", "next-exit", "removed"]


class Lifecycle:
    """`text` is what the user typed: id, name or prefix."""

    async def start(self, text: str) -> None:
        """NotModified if it runs already; CannotRun (126, 127), Conflict, NotFound."""
        raise NotImplementedError

    async def stop(self, text: str, *, signal: str = "", timeout: int | None = None) -> None:
        """timeout: seconds, -1 for ever, None its own. NotModified if it does not run."""
        raise NotImplementedError

    async def restart(self, text: str, *, signal: str = "", timeout: int | None = None) -> None:
        raise NotImplementedError

    async def kill(self, text: str, *, signal: str = "") -> None:
        """Conflict if it does not run. signal: empty for SIGKILL."""
        raise NotImplementedError

    async def pause(self, text: str) -> None:
        raise NotImplementedError

    async def unpause(self, text: str) -> None:
        raise NotImplementedError

    async def rename(self, text: str, name: str) -> None:
        raise NotImplementedError

    async def resize(self, text: str, *, rows: int, columns: int) -> None:
        raise NotImplementedError

    async def update(self, text: str, wish: ContainerUpdate) -> UpdateResponse:
        raise NotImplementedError

    async def remove(
        self, text: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """volumes: its anonymous ones go too."""
        raise NotImplementedError

    def wait(self, text: str, condition: WaitCondition = "not-running") -> Awaitable[WaitResponse]:
        """Looks up at once (NotFound), so that the door can send its headers; then await the answer."""
        raise NotImplementedError

    async def prune(self, filters: Filters) -> ContainersPruneReport:
        """Filters: until, label, label!."""
        raise NotImplementedError
