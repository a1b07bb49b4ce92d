"""The runtime of this machine: an asyncio client of the zygote and of the monitors."""

from collections.abc import AsyncIterator, Sequence

from skiff.engine.execution.runtime import Bundle, Stdio, Task, TaskExit
from skiff.oci.runtime import Mount
from skiff.paths import RunPaths


class NativeRuntime:
    """See Runtime. `run()` serves until cancelled or close(); tasks go on without it."""

    def __init__(self, run: RunPaths, cgroup_parent: str = "/skiff") -> None:
        self.paths = run
        self.cgroup_parent = cgroup_parent

    async def run(self) -> None:
        """Keep a zygote alive. Start it before the first create."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def create(
        self,
        bundle: Bundle,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        *,
        runtime: Sequence[str] = (),
        init: bool = False,
    ) -> Task:
        raise NotImplementedError

    async def load(self, id: str) -> Task | None:
        raise NotImplementedError

    def exits(self) -> AsyncIterator[TaskExit]:
        raise NotImplementedError
