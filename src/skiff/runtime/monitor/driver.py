"""What a monitor needs of whatever isolates its container: the seam, and our own isolation behind it.

The other side is foreign.py: a runc-compatible program. The monitor and the engine see no difference.
"""

import signal
from collections.abc import Callable
from typing import Final, Protocol

from skiff.linux import processes, watching
from skiff.linux.seccomp import Filter
from skiff.linux.spawn import Spawner
from skiff.oci.runtime import Hooks, Process, Resources, Spec
from skiff.runtime.isolation import config, create, hooks, join
from skiff.runtime.isolation.create import Container, Streams
from skiff.runtime.isolation.update import update
from skiff.runtime.protocol import Create

TRACING: Final = "CAP_SYS_PTRACE"


class Driver(Protocol):
    """Verbs on one container. StepFailed or OSError when one fails.

    The container's init is our child, so that its exit can be awaited and reaped.
    """

    container: Container

    def start(self) -> None: ...
    def abandon(self) -> None:
        """A start that failed: the process that was created ends, and is reaped."""
        ...

    def signal(self, number: int, *, everyone: bool = False) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def exec(self, process: Process, streams: Streams) -> join.Joined: ...
    def update(self, resources: Resources) -> None: ...
    def pids(self) -> tuple[int, ...]: ...
    def clean(self) -> None:
        """After the exit: nothing of it runs or is limited any more."""
        ...

    def deleted(self) -> None:
        """The last moment; hooks that fail here are told to the engine."""
        ...


class Native:
    """Our own isolation. has_hooks: whether the spec names any. spawner: for what joins, or None. starter: as
    create.start.
    """

    def __init__(
        self,
        wish: Create,
        container: Container,
        reader: config.Reader,
        *,
        has_hooks: bool,
        spawner: Spawner | None = None,
        starter: Callable[[Container], None] = create.start,
    ) -> None:
        self.wish = wish
        self.container = container
        self.reader = reader
        self.has_hooks = has_hooks
        self.starter = starter
        # Among processes of other containers there is no telling what they may.
        self.spawner = spawner if container.owns_pids else None
        self._read: tuple[Spec, Filter | None] | None = None

    def _spec(self) -> tuple[Spec, Filter | None]:
        """With its filter. Read when it is first asked for: most monitors end without."""
        if self._read is None:
            self._read = self.reader.spec(self.wish)
        return self._read

    def start(self) -> None:
        self.starter(self.container)
        if self.has_hooks:
            create.poststart(self.container, self._spec()[0], id=self.wish.id, bundle=self.wish.bundle)

    def abandon(self) -> None:
        processes.pidfd_signal(self.container.pidfd, signal.SIGKILL)
        processes.reap(self.container.pid)

    def signal(self, number: int, *, everyone: bool = False) -> None:
        if everyone:
            self.container.group.signal_all(number)
        else:
            processes.pidfd_signal(self.container.pidfd, number)

    def freeze(self) -> None:
        self.container.group.freeze()

    def thaw(self) -> None:
        self.container.group.thaw()

    def exec(self, process: Process, streams: Streams) -> join.Joined:
        spec, filter = self._spec()
        mappings = spec.linux.uid_mappings if spec.linux else ()
        if _may_trace(process) or _may_trace(spec.process):
            self.spawner = None  # from now on
        spawner = None if watching.is_watching() else self.spawner
        return join.join(self.container, process, streams, mappings=mappings, filter=filter, spawner=spawner)

    def update(self, resources: Resources) -> None:
        update(self.container.group, resources)

    def pids(self) -> tuple[int, ...]:
        return tuple(self.container.group.pids())

    def clean(self) -> None:
        try:
            self.container.group.destroy()
        except OSError:
            self.container.group.signal_all(signal.SIGKILL)
            self.container.group.destroy()

    def deleted(self) -> None:
        if not self.has_hooks:
            return
        spec, _ = self._spec()
        wanted = spec.hooks or Hooks()
        if wanted.poststop:
            hooks.run(
                "poststop", wanted.poststop, create.state_of(self.wish.id, self.wish.bundle, spec, "stopped")
            )


def _may_trace(process: Process | None) -> bool:
    return bool(process and process.capabilities and TRACING in process.capabilities.names)
