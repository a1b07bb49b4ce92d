"""FakeRuntime: tasks without processes. It knows true, false, sleep, cat, echo and `sh -c 'exit N'`.

`runtime.exit(id, code)` ends a task as if its process had; everything else goes through the Protocol.
"""

import asyncio
import itertools
import re
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import json

from skiff.engine.execution.runtime import AttachRequest, Bundle, EndedEarly, Stdio, TaskExit, failure
from skiff.errors import AlreadyExists, Conflict, NotFound
from skiff.oci.runtime import Mount, Resources, Spec
from skiff.oci.runtime import Process as ProcessSpec
from skiff.runtime.protocol import StepError

_KNOWN = ("true", "false", "sleep", "cat", "echo", "sh")


class _Command:
    """What a command of the little set does: output at once, then perhaps an exit code."""

    def __init__(self, process: ProcessSpec, stdio: Stdio, *, doing: str) -> None:
        name = Path(process.args[0]).name
        if name not in _KNOWN:
            error = StepError("exec", 2, f'exec: "{process.args[0]}": executable file not found in $PATH')
            raise failure(error, doing=doing)
        self.stdio = stdio
        self.output = " ".join(process.args[1:]).encode() + b"\n" if name == "echo" else b""
        self.code: int | None = {"sleep": None, "cat": None, "false": 1}.get(name, 0)
        self.echoes = name == "cat"
        if found := re.search(r"exit (\d+)", " ".join(process.args)):
            self.code = int(found[1])
        self.clients: list[tuple[socket.socket, AttachRequest]] = []

    def say(self, data: bytes) -> None:
        for sock, request in self.clients:
            if request.framed and not self.stdio.terminal:
                sock.sendall(b"\x01\0\0\0" + len(data).to_bytes(4, "big") + data)
            else:
                sock.sendall(data)

    def close(self) -> None:
        for sock, _ in self.clients:
            sock.close()
        self.clients.clear()


class FakeProcess:
    def __init__(self, id: str, pid: int, command: _Command) -> None:
        self.id = id
        self.pid = pid
        self.command = command
        self.size: tuple[int, int] | None = None
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(self, code: int) -> None:
        if not self._code.done():
            self.command.close()
            self._code.set_result(code)

    async def signal(self, number: int) -> None:
        if self._code.done():
            raise Conflict(f"process {self.id} has exited")
        self.end(128 + number)

    async def resize(self, rows: int, columns: int) -> None:
        self.size = (rows, columns)

    async def attach(self, stream: socket.socket, request: AttachRequest) -> None:
        self.command.clients.append((stream, request))

    @property
    def code(self) -> int | None:
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._code)


class FakeTask:
    def __init__(self, runtime: "FakeRuntime", bundle: Bundle, spec: Spec, stdio: Stdio, pid: int) -> None:
        self.id = bundle.id
        self.pid = pid
        self.spec = spec
        self.stdio = stdio
        self.runtime = runtime
        self.is_started = False
        self.is_paused = False
        self.size: tuple[int, int] | None = None
        self.resources: Resources | None = None
        self.execs: dict[str, FakeProcess] = {}
        self.waiting: list[tuple[socket.socket, AttachRequest]] = []
        self._command: _Command | None = None
        self._started = datetime.now(UTC)
        self._exit: asyncio.Future[TaskExit] = asyncio.get_running_loop().create_future()
        self._deleted = False

    def _alive(self) -> None:
        if self._deleted:
            raise NotFound(f"no such task: {self.id}")
        if self._exit.done():
            raise Conflict(f"task {self.id}: the container has exited")

    def end(self, code: int, *, signal: int = 0, oom_killed: bool = False, told: bool = True) -> None:
        if self._exit.done():
            return
        ended = TaskExit(
            id=self.id,
            code=code,
            signal=signal,
            oom_killed=oom_killed,
            started=self._started,
            finished=datetime.now(UTC),
        )
        self._exit.set_result(ended)
        if self._command:
            self._command.close()
        for process in self.execs.values():
            process.end(137)
        if told:
            self.runtime.tell(ended)

    async def start(self) -> None:
        if self._exit.done() and not self._deleted:
            raise EndedEarly(self._exit.result().code)
        self._alive()
        assert self.spec.process is not None
        try:
            command = _Command(self.spec.process, self.stdio, doing="create")
        except Exception as error:
            self.end(getattr(error, "exit_code", 126), told=False)
            raise
        self.is_started = True
        self._started = datetime.now(UTC)
        self._command = command
        command.clients = self.waiting
        if command.output:
            command.say(command.output)
        if command.code is not None:
            self.end(command.code)
        elif command.echoes and self.waiting:
            self.runtime.spawn(self._cat(command, *self.waiting[0]))

    async def _cat(self, command: _Command, sock: socket.socket, request: AttachRequest) -> None:
        command.say(request.early)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(sock, 4096):
            command.say(data)
        self.end(0)

    async def signal(self, number: int, *, everyone: bool = False) -> None:
        self._alive()
        if number in (2, 3, 9, 15):
            self.end(128 + number, signal=number, told=self.is_started)

    async def freeze(self) -> None:
        self._alive()
        self.is_paused = True

    async def thaw(self) -> None:
        self._alive()
        self.is_paused = False

    async def exec(
        self,
        exec_id: str,
        process: ProcessSpec,
        stdio: Stdio,
        *,
        stream: socket.socket | None = None,
        request: AttachRequest | None = None,
    ) -> FakeProcess:
        self._alive()
        if exec_id in self.execs:
            raise AlreadyExists(f"a process {exec_id} exists already")
        command = _Command(process, stdio, doing="exec")
        running = FakeProcess(exec_id, self.runtime.next_pid(), command)
        self.execs[exec_id] = running
        if stream is not None:
            command.clients.append((stream, request or AttachRequest()))
        if command.output:
            command.say(command.output)
        if command.code is not None:
            running.end(command.code)
        return running

    async def attach(
        self, stream: socket.socket, request: AttachRequest, *, gate: socket.socket | None = None
    ) -> int:
        try:
            self._alive()
        except Conflict:
            stream.close()
            raise
        (self._command.clients if self._command else self.waiting).append((stream, request))
        return time.time_ns()

    async def resize(self, rows: int, columns: int) -> None:
        self._alive()
        self.size = (rows, columns)

    async def close_stdin(self) -> None:
        self._alive()
        if self._command and self._command.echoes:
            self.end(0)

    async def update(self, resources: Resources) -> None:
        self._alive()
        self.resources = resources

    async def processes(self) -> tuple[int, ...]:
        self._alive()
        return (self.pid, *(process.pid for process in self.execs.values()))

    async def wait(self) -> TaskExit:
        return await asyncio.shield(self._exit)

    async def delete(self, *, force: bool = False) -> None:
        if self._deleted:
            raise NotFound(f"no such task: {self.id}")
        if not self._exit.done():
            if self.is_started and not force:
                raise Conflict(f"task {self.id}: the container is running")
            self.end(137, signal=9, told=self.is_started)
        self._deleted = True
        self.runtime.tasks.pop(self.id, None)


class FakeRuntime:
    def __init__(self) -> None:
        self.tasks: dict[str, FakeTask] = {}
        self._pids = itertools.count(1000)
        self._exits: asyncio.Queue[TaskExit] = asyncio.Queue()
        self._background: set[asyncio.Future[None]] = set()

    def next_pid(self) -> int:
        return next(self._pids)

    def tell(self, ended: TaskExit) -> None:
        self._exits.put_nowait(ended)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        future = asyncio.ensure_future(work)
        self._background.add(future)
        future.add_done_callback(self._background.discard)

    def exit(self, id: str, code: int = 0, *, oom_killed: bool = False) -> None:
        """End a task as if its process had exited."""
        self.tasks[id].end(code, oom_killed=oom_killed)

    async def create(
        self,
        bundle: Bundle,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        *,
        runtime: Sequence[str] = (),
        init: bool = False,
    ) -> FakeTask:
        if bundle.id in self.tasks:
            raise AlreadyExists(f"a task {bundle.id} exists already")
        spec = json.decode(Path(bundle.path, "config.json").read_bytes(), type=Spec)
        task = FakeTask(self, bundle, spec, stdio, self.next_pid())
        self.tasks[bundle.id] = task
        return task

    async def load(self, id: str) -> FakeTask | None:
        return self.tasks.get(id)

    async def exits(self) -> AsyncIterator[TaskExit]:
        while True:
            yield await self._exits.get()
