"""The runtime of this machine: an asyncio client of the zygote and of the monitors.

    create ─► Create + one end of a socket pair ─► zygote ─fork─► monitor ─► Created | Failed on the pair
    task.start() ─► Start(seq) ─► Reply(seq); Exited comes by itself
    load ─► connect <bundle>/monitor.sock ─► Status first; or read status.json

The engine owns no process of a container: it may end at any moment and find everything again by load().
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec import DecodeError

import skiff
from skiff.engine.execution.connection import Connection
from skiff.engine.execution.native_task import NativeTask
from skiff.engine.execution.runtime import Bundle, RuntimeFailure, Stdio, TaskExit, failure
from skiff.errors import AlreadyExists
from skiff.linux import cgroups, fds, safepath, watching
from skiff.oci.runtime import Mount
from skiff.paths import RunPaths
from skiff.runtime.protocol import Create, Created, Delete, Failed, Quit, Status, decode_for_engine, encode

# The interpreter runs isolated and without site: it starts in a third of the time, and only our own path
# counts. msgspec does without typing_extensions, whose imports would be a sixth of the heap to fork.
_BOOT = "import sys; sys.modules['typing_extensions'] = None; sys.path[:0] = sys.argv[1].split(':')"
_BOOT += "; from skiff.runtime.__main__ import main; main()"
_STATUS = "status.json"
_SOCKET = "monitor.sock"


class NativeRuntime:
    """See Runtime. run() keeps a zygote alive; close() ends it and forgets the tasks, which go on.

    cgroup_parent: the group below which the engine puts its containers; removed at close when it is empty.
    """

    def __init__(self, run: RunPaths, cgroup_parent: str = "/skiff") -> None:
        self.paths = run
        self.cgroup_parent = cgroup_parent
        self._zygote: _Zygote | None = None
        self._exits: asyncio.Queue[TaskExit] = asyncio.Queue()
        self._tasks: dict[str, NativeTask] = {}
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Serve until close() or cancellation; a zygote that died is replaced at once."""
        while not self._closed.is_set():
            zygote = self._living_zygote()
            died = asyncio.ensure_future(zygote.died.wait())
            closing = asyncio.ensure_future(self._closed.wait())
            try:
                await asyncio.wait((died, closing), return_when=asyncio.FIRST_COMPLETED)
            finally:
                died.cancel()
                closing.cancel()

    async def close(self) -> None:
        """End the zygote. Tasks go on; another runtime may load them."""
        self._closed.set()
        for task in tuple(self._tasks.values()):
            task.disconnect()
        self._tasks.clear()
        if self._zygote is not None:
            self._zygote.quit()
            await self._zygote.died.wait()
            self._zygote = None
        for directory in cgroups.existing(cgroups.layout(), self.cgroup_parent).directories():
            try:
                os.rmdir(directory)
            except OSError:
                pass  # tasks are still in it, or it never was

    def _living_zygote(self) -> "_Zygote":
        if self._zygote is None or self._zygote.died.is_set():
            self._zygote = _Zygote(asyncio.get_running_loop())
        return self._zygote

    async def create(
        self,
        bundle: Bundle,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        *,
        runtime: Sequence[str] = (),
        init: bool = False,
    ) -> NativeTask:
        if bundle.id in self._tasks:
            raise AlreadyExists(f"a task {bundle.id} exists already")
        traced = watching.recorder.get()
        wish = Create(
            id=bundle.id,
            bundle=bundle.path,
            rootfs=tuple(rootfs),
            stdio=stdio,
            runtime=tuple(runtime),
            init=init,
            trace=traced.name if traced else "",
        )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection = Connection(ours)
        try:
            with theirs:
                self._living_zygote().send(encode(wish), theirs.fileno())
            first = await connection.first()
        except asyncio.CancelledError:
            await _take_back(connection)
            raise
        except BaseException:
            connection.close()
            raise
        if isinstance(first, Created):
            task = NativeTask(bundle.id, first.pid, bundle.path, connection, self._ended, self._deleted)
            self._tasks[bundle.id] = task
            if traced is not None:
                traced.followed.add(bundle.id)
            return task
        connection.close()
        if traced is not None:
            traced.add(watching.from_file(f"{bundle.path}/{traced.name}"))
        if isinstance(first, Failed):
            raise failure(first.error)
        raise RuntimeFailure("the runtime ended before the container was made", step="create")

    async def load(self, id: str) -> NativeTask | None:
        if id in self._tasks:
            return self._tasks[id]
        bundle = str(self.paths.task(id))
        connection = _connect(bundle)
        status: object = None
        if connection is not None:
            try:
                status = await connection.first()
            except BaseException:
                connection.close()
                raise
            if not isinstance(status, Status):
                connection.close()
                connection = None
        if not isinstance(status, Status):
            status = _read_status(bundle)
        if status is None:
            return None
        task = NativeTask(id, status.pid, bundle, connection, self._ended, self._deleted)
        self._tasks[id] = task
        task.restore(status)
        return task

    async def exits(self) -> AsyncIterator[TaskExit]:
        while True:
            yield await self._exits.get()

    def _ended(self, ended: TaskExit) -> None:
        self._exits.put_nowait(ended)

    def _deleted(self, id: str) -> None:
        self._tasks.pop(id, None)


class _Zygote:
    """The child process that forks monitors. died: set once it is gone and reaped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.died = asyncio.Event()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = ours
        with theirs, open(os.devnull, "rb") as nothing:
            theirs.set_inheritable(True)
            program = os.path.realpath(sys.executable)
            arguments = [
                sys.executable,
                "-ISE",
                "-X",
                "no_debug_ranges",
                "-c",
                _BOOT,
                ":".join(_import_path()),
                "zygote",
            ]
            self.pid = os.posix_spawn(
                program,
                [*arguments, str(theirs.fileno())],
                {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                file_actions=[(os.POSIX_SPAWN_DUP2, nothing.fileno(), 0)],
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE),
            )
        self.pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self.pidfd, self._reap)

    def _reap(self) -> None:
        self.loop.remove_reader(self.pidfd)
        os.close(self.pidfd)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # somebody ignores SIGCHLD for this process
        self.channel.close()
        self.died.set()

    def send(self, packet: bytes, *riders: int) -> None:
        """RuntimeFailure when it is gone: the next call finds a new one."""
        try:
            fds.send_packet(self.channel, packet, riders)
        except OSError as error:
            raise RuntimeFailure(f"the runtime is not there: {error.strerror}", step="create") from error

    def quit(self) -> None:
        try:
            fds.send_packet(self.channel, encode(Quit()))
        except OSError:
            pass  # it is on its way out


async def _take_back(connection: Connection) -> None:
    """What is being made and nobody wants any more: it is awaited, and goes."""
    try:
        if isinstance(await connection.first(), Created):
            await connection.ask(Delete(force=True))
    except RuntimeFailure:
        pass  # its monitor has gone before
    finally:
        connection.close()


def _import_path() -> list[str]:
    """Where skiff and msgspec are found, ours first."""
    own = str(Path(skiff.__file__).parents[1])
    found = [own]
    for name in ("msgspec",):
        place = str(Path(str(sys.modules[name].__file__)).parents[1])
        if place not in found:
            found.append(place)
    return found


def _connect(bundle: str) -> Connection | None:
    """A connection to the monitor of the bundle; None if nobody listens."""
    try:
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        # Through the descriptor: an address holds 107 bytes, a data root may be deep.
        channel.connect(f"{safepath.fd_path(directory)}/{_SOCKET}")
        return Connection(channel)
    except OSError:
        channel.close()
        return None
    finally:
        os.close(directory)


def _read_status(bundle: str) -> Status | None:
    try:
        with open(f"{bundle}/{_STATUS}", "rb") as file:
            message = decode_for_engine(file.read())
    except FileNotFoundError:
        return None
    except DecodeError as error:
        raise RuntimeFailure(f"{bundle}/{_STATUS}: {error}", step="load") from error
    return message if isinstance(message, Status) else None
