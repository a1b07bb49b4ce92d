"""A task and its further processes, as the engine sees them through a connection to the monitor."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable

from msgspec import json, structs

from skiff.engine.execution.connection import Connection
from skiff.engine.execution.runtime import (
    AttachRequest,
    EndedEarly,
    Stdio,
    TaskExit,
    failure,
    instant,
)
from skiff.errors import AlreadyExists, Conflict, InvalidParameter, NotFound
from skiff.linux import watching
from skiff.oci.runtime import Process as ProcessSpec
from skiff.oci.runtime import Resources
from skiff.runtime import protocol
from skiff.runtime.protocol import Exited, Reply, Status, ToEngine, ToMonitor

LARGE = 32 * 1024  # beyond that a process goes by file, not by packet
LOST = 255  # the code of a task whose monitor died without a word
NO_LONGER, THERE_ALREADY, BUSY, MEANINGLESS = 3, 17, 16, 22  # ESRCH EEXIST EBUSY EINVAL


class NativeTask:
    """See Task."""

    def __init__(
        self,
        id: str,
        pid: int,
        bundle: str,
        connection: Connection | None,
        on_exit: Callable[[TaskExit], None],
        on_delete: Callable[[str], None],
    ) -> None:
        self.id = id
        self.pid = pid
        self.bundle = bundle
        self.is_paused = False
        self.oom_killed = False
        self.started = 0
        self._connection = connection
        self._on_exit = on_exit
        self._on_delete = on_delete
        self._deleted = False
        self._pidfd = _open_process(pid) if connection else -1
        self._exit: asyncio.Future[TaskExit] = asyncio.get_running_loop().create_future()
        self._execs: dict[str, NativeProcess] = {}
        if connection is not None:
            connection.listen(self._news, self._lost)

    @property
    def ended(self) -> TaskExit | None:
        """How it ended, if it has."""
        return self._exit.result() if self._exit.done() else None

    def restore(self, status: Status) -> None:
        """Take over what a monitor, or its status file, says after a restart of the engine."""
        self.started = status.started
        self.is_paused = status.paused
        for exec_id in status.execs:
            self._execs.setdefault(exec_id, NativeProcess(exec_id, 0, self))
        if status.exited is not None:
            self._exited(status.exited)
        elif self._connection is None:
            self._lost()  # it was running when its monitor died

    def disconnect(self) -> None:
        """Let go of the monitor; the container goes on."""
        if self._connection is not None:
            self._connection.on_lost = None
            self._connection.close()
        self._forget_process()

    def process(self, exec_id: str) -> "NativeProcess":
        """A further process that was running when the task was loaded, or was started since. NotFound."""
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound(f"no such process: {exec_id}") from None

    # -- verbs -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        reply = await self.ask(protocol.Start())
        self.pid = reply.pid or self.pid
        if reply.error is None or reply.error.step.startswith("hook poststart"):
            self.started = self.started or time.time_ns()
        if reply.error is not None:
            if reply.error.step == "start" and reply.error.errno == NO_LONGER and self.ended is not None:
                raise EndedEarly(self.ended.code)
            raise failure(reply.error)

    async def signal(self, number: int, *, everyone: bool = False) -> None:
        await self.verb(protocol.Signal(number=number, everyone=everyone))

    async def freeze(self) -> None:
        await self.verb(protocol.Freeze())
        self.is_paused = True

    async def thaw(self) -> None:
        await self.verb(protocol.Thaw())
        self.is_paused = False

    async def exec(
        self,
        exec_id: str,
        process: ProcessSpec,
        stdio: Stdio,
        *,
        stream: socket.socket | None = None,
        request: AttachRequest | None = None,
    ) -> "NativeProcess":
        running = NativeProcess(exec_id, 0, self)
        if exec_id in self._execs:
            raise AlreadyExists(f"a process {exec_id} exists already")
        wish = protocol.Exec(
            exec_id=exec_id,
            process=process,
            stdio=stdio,
            attach=_attach(request or AttachRequest(), exec_id) if stream else None,
        )
        self._execs[exec_id] = running
        try:
            reply = await self.ask(self._fitting(wish, process), stream)
        except BaseException:
            self._execs.pop(exec_id, None)
            raise
        finally:
            if stream is not None:
                stream.close()
        if reply.error is not None:
            self._execs.pop(exec_id, None)
            raise self._error(reply, doing="exec")
        running.pid = reply.pid
        return running

    def _fitting(self, wish: protocol.Exec, process: ProcessSpec) -> protocol.Exec:
        body = json.encode(process)
        if len(body) <= LARGE:
            return wish
        name = f"process-{wish.exec_id}.json"
        fd = os.open(f"{self.bundle}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(body)
        return structs.replace(wish, process=None, process_file=name)

    async def attach(
        self,
        stream: socket.socket,
        request: AttachRequest,
        *,
        exec_id: str = "",
        gate: socket.socket | None = None,
    ) -> int:
        with stream:
            reply = await self.ask(_attach(request, exec_id), stream, gate)
            self._check(reply)
            return reply.time

    async def resize(self, rows: int, columns: int) -> None:
        await self.verb(protocol.Resize(rows=rows, columns=columns))

    async def close_stdin(self) -> None:
        await self.verb(protocol.CloseStdin())

    async def update(self, resources: Resources) -> None:
        await self.verb(protocol.Update(resources=resources))

    async def processes(self) -> tuple[int, ...]:
        reply = await self.verb(protocol.Processes())
        return reply.pids

    async def wait(self) -> TaskExit:
        return await asyncio.shield(self._exit)

    async def delete(self, *, force: bool = False) -> None:
        if self._deleted:
            raise NotFound(f"no such task: {self.id}")
        if self._connection is not None and self._connection.open:
            reply = await self.ask(protocol.Delete(force=force))
            if reply.error is not None and reply.error.step == "delete":
                self._check(reply)
            self._finish_delete()
            if reply.error is not None:
                self._check(reply)
            return
        if not self._exit.done():
            raise Conflict(f"task {self.id} is running, but its monitor is not there")
        self._finish_delete()

    def _finish_delete(self) -> None:
        self._deleted = True
        try:
            os.unlink(f"{self.bundle}/status.json")
        except FileNotFoundError:
            pass  # the monitor took it away, or never wrote it
        self.disconnect()
        self._on_delete(self.id)

    # -- conversation ------------------------------------------------------------------------------------

    async def verb(self, request: ToMonitor) -> Reply:
        """Ask, and raise what the answer says."""
        reply = await self.ask(request)
        self._check(reply)
        return reply

    async def ask(self, request: ToMonitor, *riders: socket.socket | None) -> Reply:
        if self._deleted:
            raise NotFound(f"no such task: {self.id}")
        if self._connection is None or (self._exit.done() and not self._connection.open):
            raise Conflict(f"task {self.id} is not running")
        traced = watching.recorder.get()
        if traced is not None:
            request = structs.replace(request, trace=traced.name)
        try:
            return await self._connection.ask(request, tuple(sock.fileno() for sock in riders if sock))
        finally:
            # What was made is written down until the start: one file for the monitor, init and both requests.
            if traced is not None and (self.started or isinstance(request, protocol.Start)):
                traced.add(watching.from_file(f"{self.bundle}/{traced.name}"))

    def _check(self, reply: Reply) -> None:
        if reply.error is not None:
            raise self._error(reply)

    def _error(self, reply: Reply, doing: str = "create") -> Exception:
        error = reply.error
        assert error is not None
        if error.errno in (NO_LONGER, BUSY):
            return Conflict(f"task {self.id}: {error.text}")
        if error.errno == THERE_ALREADY and error.step == "exec":
            return AlreadyExists(error.text)
        if error.errno == MEANINGLESS and error.step != "exec":
            return InvalidParameter(f"{error.step}: {error.text}")
        return failure(error, doing=doing)

    def _news(self, message: ToEngine) -> None:
        match message:
            case Exited():
                self._exited(message)
            case protocol.ExecExited():
                process = self._execs.pop(message.exec_id, None)
                if process is not None:
                    process.exited(message.code)
            case protocol.Oom():
                self.oom_killed = True

    def _exited(self, news: Exited) -> None:
        if self._exit.done():
            return
        ended = TaskExit(
            id=self.id,
            code=news.code,
            signal=news.signal,
            oom_killed=news.oom_killed,
            started=instant(news.started or news.finished),
            finished=instant(news.finished),
        )
        self._exit.set_result(ended)
        self._forget_process()
        if news.started:
            self._on_exit(ended)

    def _lost(self) -> None:
        """The monitor died without telling the exit: the container must not go on unwatched."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in tuple(self._execs.values()):
            process.exited(LOST)
        self._execs.clear()
        if not self._exit.done() and not self._deleted:
            now = time.time_ns()
            self._exited(Exited(code=LOST, started=self.started, finished=now))

    def _forget_process(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class NativeProcess:
    """See Process."""

    def __init__(self, id: str, pid: int, task: NativeTask) -> None:
        self.id = id
        self.pid = pid
        self._task = task
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def code(self) -> int | None:
        return self._code.result() if self._code.done() else None

    def exited(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)

    async def signal(self, number: int) -> None:
        await self._task.verb(protocol.Signal(number=number, exec_id=self.id))

    async def resize(self, rows: int, columns: int) -> None:
        await self._task.verb(protocol.Resize(rows=rows, columns=columns, exec_id=self.id))

    async def attach(self, stream: socket.socket, request: AttachRequest) -> None:
        await self._task.attach(stream, request, exec_id=self.id)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)


def _attach(request: AttachRequest, exec_id: str) -> protocol.Attach:
    return protocol.Attach(
        stdin=request.stdin,
        stdout=request.stdout,
        stderr=request.stderr,
        framed=request.framed,
        detach_keys=request.detach_keys.decode("latin-1"),
        early=request.early.decode("latin-1"),
        exec_id=exec_id,
    )


def _open_process(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
