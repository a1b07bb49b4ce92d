"""What a monitor needs of whatever isolates its container: the seam, and our own isolation behind it.

The other side is foreign.py: a runc-compatible program. The monitor and the engine see no difference.
"""

import signal
from collections.abc import Callable
from typing import Protocol

from skiff.linux import cgroups, processes
from skiff.oci.runtime import Hooks, Process, Resources, Spec
from skiff.runtime.isolation import create, hooks, join
from skiff.runtime.isolation.create import Container, Streams
from skiff.runtime.isolation.update import update
from skiff.runtime.protocol import Create


class Driver(Protocol):
    """Verbs on one container. StepFailed or OSError when one fails.

    `container` is there after create: its init is our child, so that its exit can be awaited and reaped.
    """

    container: Container

    def create(self, streams: Streams, meanwhile: Callable[[], None]) -> Container:
        """meanwhile: called once, where waiting would be idle."""
        ...

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
    """Our own isolation."""

    container: Container

    def __init__(
        self, wish: Create, spec: Spec, *, here: cgroups.Layout, seccomp_program: bytes | None
    ) -> None:
        self.wish = wish
        self.spec = spec
        self.here = here
        self.seccomp_program = seccomp_program
        self.seccomp_flags = create.flags_of(spec)

    def create(self, streams: Streams, meanwhile: Callable[[], None]) -> Container:
        self.container = create.create(
            id=self.wish.id,
            bundle=self.wish.bundle,
            spec=self.spec,
            streams=streams,
            rootfs_mounts=self.wish.rootfs,
            with_init=self.wish.init,
            seccomp_program=self.seccomp_program,
            here=self.here,
            meanwhile=meanwhile,
        )
        return self.container

    def start(self) -> None:
        create.start(self.container, self.spec, id=self.wish.id, bundle=self.wish.bundle)

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
        return join.join(
            self.container,
            process,
            streams,
            mappings=self.spec.linux.uid_mappings if self.spec.linux else (),
            seccomp_program=self.seccomp_program,
            seccomp_flags=self.seccomp_flags,
        )

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
        wanted = self.spec.hooks or Hooks()
        if wanted.poststop:
            state = create.state_of(self.wish.id, self.wish.bundle, self.spec, "stopped")
            hooks.run("poststop", wanted.poststop, state)
