"""The seam to running processes: Runtime, Task and Process, and the values that cross it.

No implementation: NativeRuntime (native.py) is one, tests/fakes/fake_runtime.py the other; both pass
tests/contracts/runtime_contract.py. A Task exists from create until delete. An exit is told once by exits()
and to everyone who waits.
"""

import errno
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from socket import socket
from typing import Protocol

from msgspec import Struct

from skiff.engine.execution.bundle import Bundle
from skiff.errors import CannotRun, SkiffError
from skiff.oci.runtime import Mount, Resources
from skiff.oci.runtime import Process as ProcessSpec
from skiff.runtime.protocol import LogConfig, Stdio, StepError

__all__ = [
    "AttachRequest",
    "Bundle",
    "EndedEarly",
    "LogConfig",
    "Process",
    "Runtime",
    "RuntimeFailure",
    "Stdio",
    "Task",
    "TaskExit",
    "failure",
]


class TaskExit(Struct, frozen=True, kw_only=True):
    """How a task ended. code: 0–255, 128+n for signal n. Instants in UTC."""

    id: str
    code: int
    signal: int = 0
    oom_killed: bool = False
    started: datetime
    finished: datetime

    @property
    def ran_for(self) -> timedelta:
        return self.finished - self.started


class AttachRequest(Struct, frozen=True, kw_only=True):
    """Which streams a client's socket joins.

    framed: output carries the 8-byte header of skiff.docker.stdcopy. early: stdin bytes
    already read from the client. detach_keys: the bytes that leave, seen only on a terminal; empty for none.
    """

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    framed: bool = True
    early: bytes = b""
    detach_keys: bytes = b""


class RuntimeFailure(SkiffError):
    """The runtime could not do a step. step names it (`mount /proc`), errno is 0 if no system call failed."""

    def __init__(self, message: str, *, step: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno


class EndedEarly(SkiffError):
    """The container had ended before it could be started. exit_code: as in TaskExit."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("cannot start a stopped process")
        self.exit_code = exit_code


class Process(Protocol):
    """A further process of a task."""

    id: str
    pid: int

    async def signal(self, number: int) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def attach(self, stream: socket, request: AttachRequest) -> None: ...

    @property
    def code(self) -> int | None:
        """The exit code, known before the last attached client sees the end of its stream."""
        ...

    async def wait(self) -> int:
        """The exit code, 128+n for signal n."""
        ...


class Task(Protocol):
    """The running side of one container. NotFound from any verb once it is deleted."""

    id: str
    pid: int
    is_paused: bool

    async def start(self) -> None:
        """Let the command run. CannotRun (126, 127), EndedEarly, RuntimeFailure: then it waits for delete.

        A task that has ended early or whose start failed is not told by exits(), but wait() answers.
        """
        ...

    async def signal(self, number: int, *, everyone: bool = False) -> None:
        """Conflict once it has exited."""
        ...

    async def freeze(self) -> None: ...
    async def thaw(self) -> None: ...

    async def exec(
        self,
        exec_id: str,
        process: ProcessSpec,
        stdio: Stdio,
        *,
        stream: socket | None = None,
        request: AttachRequest | None = None,
    ) -> Process:
        """Run a further process; a stream given with its request is joined before its first byte.

        The stream is passed on and closed here. CannotRun, RuntimeFailure.
        """
        ...

    async def attach(self, stream: socket, request: AttachRequest, *, gate: socket | None = None) -> int:
        """Give a client's socket to the monitor (it is closed here). Before start: not a byte is missed.

        gate: one end of a pair; output is kept back until the other is closed. Returned is the instant (ns
        since the epoch) that divides what is in the log only from what this client gets.
        """
        ...

    async def resize(self, rows: int, columns: int) -> None: ...
    async def close_stdin(self) -> None: ...
    async def update(self, resources: Resources) -> None: ...

    async def processes(self) -> tuple[int, ...]:
        """Host pids of all processes in it."""
        ...

    async def wait(self) -> TaskExit: ...

    async def delete(self, *, force: bool = False) -> None:
        """Remove what is left of it. Conflict while it runs, unless force."""
        ...


class Runtime(Protocol):
    async def create(
        self,
        bundle: Bundle,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        *,
        runtime: Sequence[str] = (),
        init: bool = False,
    ) -> Task:
        """Make a container whose init is ready but not started. RuntimeFailure, CannotRun.

        rootfs: mounts that make up the root, in order; empty if the spec's root.path is ready as it is.
        runtime: a runc-compatible program with its leading arguments; empty for our own isolation.
        init: run the command below a small init that reaps and forwards signals.
        """
        ...

    async def load(self, id: str) -> Task | None:
        """The task of that id after an engine restart, running or exited meanwhile; None if there is none.

        An exit that happened meanwhile is told by exits() as well.
        """
        ...

    def exits(self) -> AsyncIterator[TaskExit]:
        """Every exit of a started task, in order, for ever. One reader."""
        ...


def instant(ns: int) -> datetime:
    """UTC from nanoseconds since the epoch."""
    return datetime.fromtimestamp(ns / 1e9, UTC)


def failure(error: StepError, *, doing: str = "create") -> SkiffError:
    """The error to raise for a step that failed, in the words that Docker's clients know.

    doing: `create` for a container's own command, `exec` for a further process.
    """
    if error.step not in ("exec", "chdir"):
        return RuntimeFailure(f"{error.step}: {error.text}", step=error.step, errno=error.errno)
    where = (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        if doing == "exec"
        else "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        "runc create failed: unable to start container process: error during container init: "
    )
    code = 127 if error.errno in (0, errno.ENOENT) else 126
    return CannotRun(f"{where}{error.text}", code)
