"""RUN: a process in the snapshot of its step, through the runtime alone. No container, no record but a row
that says "this one runs", which lets the next boot clear away what a crash left.

Mount points that the image lacks stand in a directory between its layers and the changes, so that what the
process is given to see leaves no trace in the layer.
"""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker import stdcopy
from skiff.engine.builds import confinement
from skiff.engine.builds.confinement import Machine, Run
from skiff.engine.builds.networking import Sandboxes, View
from skiff.engine.builds.plan import ExecOp
from skiff.engine.builds.request import BuildRequest
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import Tree, seen
from skiff.engine.execution import bundle
from skiff.engine.execution.runtime import AttachRequest, LogConfig, Runtime, Stdio, Task
from skiff.engine.storage.beneath import copy_attributes
from skiff.engine.storage.overlay import escape
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.engine.storage.state import StateStore
from skiff.errors import NotFound, SkiffError
from skiff.linux import users
from skiff.oci.runtime import Mount, Spec
from skiff.paths import RunPaths

Tell = Callable[[str], Awaitable[None]]
_HOST_FILES = ("hosts", "resolv.conf")
_PLACES = ("/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc")
_LONGEST_LINE = 1 << 16  # bytes; a longer one is told in pieces


class Failed(SkiffError):
    """A RUN that ended with another exit code than 0. Docker's words."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Running(Struct, frozen=True):
    """A row of `build_run`: the task of that id and its snapshot."""

    key: str


class MountPoint(Struct, frozen=True):
    """Where something is mounted. is_file: a file, else a directory."""

    path: str
    is_file: bool = False


class Runner:
    """Runs commands. Safe to be used by several builds at once."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        run: RunPaths,
        snapshots: Snapshotter,
        sandboxes: Sandboxes,
        state: StateStore,
        machine: Machine,
    ) -> None:
        self._runtime = runtime
        self._run = run
        self._snapshots = snapshots
        self._sandboxes = sandboxes
        self._rows = state.table("build_run", Running)
        self._machine = machine

    async def run(
        self,
        op: ExecOp,
        key: SnapshotKey,
        below: Sequence[str],
        mounts: Sequence[tuple[Mount, MountPoint]],
        request: BuildRequest,
        extra_env: Mapping[str, str],
        tell: Tell,
        id: str,
    ) -> None:
        """Run the command in the snapshot on the layers below. Failed, CannotRun, InvalidParameter.

        mounts: those of RUN --mount, ready. extra_env: secrets and what is hidden. tell: its output.
        """
        network = op.network if op.network != "default" else request.network
        self._rows.put(id, Running(key))
        try:
            async with self._networked(id, network) as view:
                directory = str(self._run.tasks / f"{id}-files")
                texts = {
                    "hosts": confinement.hosts(request.extra_hosts, view.gateway),
                    "resolv.conf": view.resolv_conf,
                }
                try:
                    identity, rootfs = await finished(
                        self._prepare, op, key, below, [point for _, point in mounts], directory, texts
                    )
                    spec = confinement.specification(
                        Run(
                            id=id,
                            args=op.args,
                            env=(*op.env, *(f"{name}={value}" for name, value in extra_env.items())),
                            cwd=op.cwd,
                            who=identity,
                            network=view.namespace,
                            privileged=op.security == "insecure",
                            mounts=(
                                *(mount for mount, _ in mounts),
                                *(
                                    Mount(script.name, "bind", f"{directory}/script{number}", ("rbind", "ro"))
                                    for number, script in enumerate(op.scripts)
                                ),
                            ),
                            host_files=tuple((f"/etc/{name}", f"{directory}/{name}") for name in _HOST_FILES),
                            limits=request.limits,
                        ),
                        self._machine,
                    )
                    await self._process(id, spec, rootfs, op, tell)
                finally:
                    discard(directory)
                    bundle.remove(self._run, id)
        finally:
            self._rows.delete(id)

    @contextlib.asynccontextmanager
    async def _networked(self, id: str, network: str) -> AsyncIterator[View]:
        """NotFound, in Docker's words."""
        async with AsyncExitStack() as stack:
            try:
                view = await stack.enter_async_context(self._sandboxes.open(id, network))
            except NotFound as error:
                raise NotFound(f"failed to set up container networking: {error}") from error
            yield view

    def _prepare(
        self,
        op: ExecOp,
        key: SnapshotKey,
        below: Sequence[str],
        points: Sequence[MountPoint],
        directory: str,
        texts: Mapping[str, str],
    ) -> tuple[users.Identity, list[Mount]]:
        os.makedirs(directory, mode=0o711)
        for name, text in texts.items():
            _write(f"{directory}/{name}", text, 0o644)
        for number, script in enumerate(op.scripts):
            _write(f"{directory}/script{number}", script.data, 0o755)
        with seen(below) as tree:
            who = users.resolve(op.user, tree.read("/etc/passwd"), tree.read("/etc/group"))
            wanted = [
                *(MountPoint(place) for place in _PLACES),
                *(MountPoint(f"/etc/{name}", is_file=True) for name in _HOST_FILES),
                *(MountPoint(script.name, is_file=True) for script in op.scripts),
                *points,
            ]
            _mount_points(f"{directory}/points", wanted, tree, below)
        mounts = self._snapshots.mounts(key, volatile=True)
        return who, _with_points(mounts, f"{directory}/points")

    async def _process(self, id: str, spec: Spec, rootfs: Sequence[Mount], op: ExecOp, tell: Tell) -> None:
        made = bundle.write(self._run, id, spec)
        stdio = Stdio(log=LogConfig(driver="none"))
        async with AsyncExitStack() as stack:
            task = await self._runtime.create(made, rootfs, stdio)
            stack.push_async_callback(_end, task)
            ours, theirs = socket.socketpair()
            await task.attach(theirs, AttachRequest())
            reading = asyncio.ensure_future(_read(ours, tell))
            stack.push_async_callback(_finish, reading)
            await task.start()
            ended = await task.wait()
            await reading
        if ended.code:
            reason = "the kernel ran out of memory for it" if ended.oom_killed else ""
            shown = " ".join(op.args)
            raise Failed(
                f"The command '{shown}' returned a non-zero code: {ended.code}"
                + (f" ({reason})" if reason else ""),
                ended.code,
            )

    async def recover(self) -> None:
        """At boot: end what a crash left running."""
        for id, row in list(self._rows.all()):
            task = await self._runtime.load(id)
            if task is not None:
                await _end(task)
            self._sandboxes.forget(id)
            bundle.remove(self._run, id)
            discard(str(self._run.tasks / f"{id}-files"))
            with contextlib.suppress(NotFound):
                self._snapshots.remove(SnapshotKey(row.key))
            self._rows.delete(id)


def new_id() -> str:
    """As long as a container's."""
    return secrets.token_hex(32)


async def _end(task: Task) -> None:
    """Kill it, whether or not it has begun, and take away what it had."""
    with contextlib.suppress(NotFound):
        await task.delete(force=True)


async def _finish(reading: "asyncio.Future[None]") -> None:
    reading.cancel()
    await asyncio.wait({reading})


async def _read(stream: socket.socket, tell: Tell) -> None:
    """The output in lines; what comes on stderr is shown as Docker's builder shows it: in red."""
    stream.setblocking(False)
    loop = asyncio.get_running_loop()
    buffer = b""
    pending = {stdcopy.STDOUT: b"", stdcopy.STDERR: b""}
    with stream:
        while data := await loop.sock_recv(stream, 1 << 16):
            buffer += data
            frames, taken = stdcopy.split(buffer)
            buffer = buffer[taken:]
            for number, payload in frames:
                whole, newline, rest = (pending.get(number, b"") + payload).rpartition(b"\n")
                if len(rest) > _LONGEST_LINE:
                    whole, newline, rest = whole + newline + rest, b"", b""
                pending[number] = rest
                if whole or newline:
                    await tell(_shown(number, whole + newline))
        for number, rest in pending.items():
            if rest:
                await tell(_shown(number, rest))


def _shown(number: int, data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return f"\x1b[91m{text}\x1b[0m" if number == stdcopy.STDERR else text


def _write(path: str, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(fd, "w") as file:
        os.fchmod(fd, mode)
        file.write(text)


def _mount_points(directory: str, wanted: Sequence[MountPoint], tree: Tree, below: Sequence[str]) -> None:
    """Make those that the tree lacks, their parents looking as they do in the tree."""
    os.mkdir(directory, 0o755)
    copy_attributes(below, "", directory)
    for point in wanted:
        if tree.status(point.path) is not None:
            continue
        path = tree.canonical(point.path)
        made = ""
        *parents, name = path.strip("/").split("/")
        for part in parents:
            made = f"{made}/{part}"
            if not os.path.isdir(directory + made):
                os.mkdir(directory + made, 0o755)
                if tree.is_directory(made):
                    copy_attributes(below, made[1:], directory)
        place = f"{directory}{made}/{name}"
        if point.is_file:
            _write(place, "", 0o644)
        elif not os.path.isdir(place):
            os.mkdir(place, 0o755)


def _with_points(mounts: Sequence[Mount], directory: str) -> list[Mount]:
    """The overlay with one more layer on top of its lower ones; a bind of a lone directory stays as it is."""
    found = []
    for mount in mounts:
        if mount.type == "overlay":
            options = tuple(
                f"lowerdir={escape(directory)}:{option[9:]}" if option.startswith("lowerdir=") else option
                for option in mount.options
            )
            mount = replace(mount, options=options)
        found.append(mount)
    return found
