"""Further processes in running containers: create, start, resize, inspect. Their records live in memory."""

import asyncio
import secrets
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from socket import socket

from msgspec import UNSET, Struct
from msgspec.structs import replace

from skiff.docker.exec import ExecCreate, ExecInspect, ExecProcess, ExecStart
from skiff.engine.containers import states
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.health import Check
from skiff.engine.containers.keys import detach_keys
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.spec import security, translate
from skiff.engine.containers.starting import Starting
from skiff.engine.execution.runtime import AttachRequest, Process, Stdio, Task
from skiff.errors import CannotRun, Conflict, InvalidParameter, NotFound
from skiff.oci import runtime as oci

KEPT_AFTER = 512  # finished execs that can still be inspected
MOST_PROBE_OUTPUT = 64 * 1024


class Exec(Struct, frozen=True, kw_only=True):
    """One exec. code: None until it has exited. pid: of the host; 0 before it runs and after."""

    id: str
    container: str
    wish: ExecCreate
    running: bool = False
    code: int | None = None
    pid: int = 0


class Execs:
    def __init__(
        self,
        *,
        records: Records,
        live: Live,
        starting: Starting,
        ground: translate.Ground,
        announce: Announcer,
    ) -> None:
        self.records = records
        self.live = live
        self.starting = starting
        self.ground = ground
        self.announce = announce
        self._execs: dict[str, Exec] = {}
        self._processes: dict[str, Process] = {}
        self._starting: dict[str, asyncio.Event] = {}
        self._started: asyncio.Queue[tuple[str, Process]] = asyncio.Queue()

    async def create(self, text: str, wish: ExecCreate) -> str:
        """The new exec's id (64 hex). NotFound, Conflict (not running, paused), InvalidParameter."""
        if not wish.cmd:
            raise InvalidParameter("No exec command specified")
        container = self.records.find(text)
        _require_ready(container)
        if wish.working_dir and not wish.working_dir.startswith("/"):
            raise InvalidParameter(
                f"the working directory '{wish.working_dir}' is invalid, it needs to be an absolute path"
            )
        detach_keys(wish.detach_keys)
        self._process(container, wish, wish.console_size)  # a user who does not exist is refused now
        id = secrets.token_hex(32)
        self._execs[id] = Exec(id=id, container=container.id, wish=wish)
        self._forget_old()
        self.announce(container, f"exec_create: {_shown(wish)}", execID=id)
        return id

    def prepare(self, id: str, wish: ExecStart) -> oci.Process:
        """What is to run, before any answer is begun.

        NotFound `No such exec instance: x`, Conflict (it ran), InvalidParameter (no such user).
        """
        found, container = self._unstarted(id)
        return self._process(container, found.wish, wish.console_size or found.wish.console_size)

    async def start(
        self, id: str, spec: oci.Process, wish: ExecStart, stream: socket | None, early: bytes = b""
    ) -> None:
        """Returns once the command runs; the socket goes to the monitor. CannotRun, Conflict, NotFound.

        spec: from `prepare`. stream: None when detached. early: stdin bytes that came with the request.
        """
        found, container = self._unstarted(id)
        asked = found.wish
        self._execs[id] = replace(found, running=True)
        here = self._starting[id] = asyncio.Event()
        self.announce(container, f"exec_start: {_shown(asked)}", execID=id)
        request = None
        if stream is not None:
            request = AttachRequest(
                stdin=asked.attach_stdin,
                stdout=asked.attach_stdout,
                stderr=asked.attach_stderr,
                framed=not wish.tty,  # as the start says, whatever the exec has
                early=early,
                detach_keys=detach_keys(asked.detach_keys),
            )
        size = wish.console_size or asked.console_size
        stdio = Stdio(
            terminal=asked.tty,
            stdin=asked.attach_stdin and stream is not None,
            stdin_once=True,
            size=oci.ConsoleSize(*size) if size and len(size) == 2 and all(size) else None,
        )
        try:
            async with self._moving(container.id) as task:
                process = await task.exec(id, spec, stdio, stream=stream, request=request)
        except BaseException as error:
            code = error.exit_code if isinstance(error, CannotRun) else 126
            self._execs[id] = replace(self._execs[id], running=False, code=code)
            raise
        else:
            self._execs[id] = replace(self._execs[id], pid=process.pid)
            self._processes[id] = process
        finally:
            del self._starting[id]
            here.set()
        self._started.put_nowait((id, process))

    async def run(self) -> None:
        """Note the exit of each exec, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                id, process = await self._started.get()
                group.create_task(self._follow(id, process))

    async def _follow(self, id: str, process: Process) -> None:
        try:
            code = await process.wait()
        except (NotFound, Conflict):
            code = 137  # its container is gone, and it with it
        self._processes.pop(id, None)
        found = self._execs.get(id)
        if found is None:
            return
        self._execs[id] = replace(found, running=False, code=code, pid=0)
        with suppress(NotFound):
            self.announce(self.records.get(found.container), "exec_die", execID=id, exitCode=str(code))

    async def resize(self, id: str, *, rows: int, columns: int) -> None:
        found = self._get(id)
        if here := self._starting.get(id):
            await here.wait()  # clients resize as soon as their stream is open
        process = self._processes.get(id)
        if process is None or not self._get(id).running:
            raise Conflict(f"exec {id} is not running")
        if found.wish.tty:
            await process.resize(rows, columns)

    def inspect(self, id: str) -> ExecInspect:
        found = self._get(id)
        process = self._processes.get(id)
        if found.code is None and process is not None and process.code is not None:
            # A client asks as soon as its stream ends; our own note may be a moment behind.
            found = replace(found, running=False, code=process.code, pid=0)
        wish = found.wish
        entrypoint, *arguments = wish.cmd or ("",)
        return ExecInspect(
            id=id,
            running=found.running,
            exit_code=found.code,
            process_config=ExecProcess(
                arguments=tuple(arguments),
                entrypoint=entrypoint,
                privileged=wish.privileged,
                tty=wish.tty,
                user=wish.user or UNSET,
            ),
            open_stdin=wish.attach_stdin,
            open_stderr=wish.attach_stderr,
            open_stdout=wish.attach_stdout,
            can_remove=found.code is not None,
            container_id=found.container,
            detach_keys=wish.detach_keys,
            pid=found.pid,
        )

    def of_container(self, id: str) -> tuple[str, ...]:
        """The ids of its execs that have not ended, for inspect."""
        return tuple(e.id for e in self._execs.values() if e.container == id and e.code is None)

    async def probe(self, id: str, check: Check) -> tuple[int, bytes]:
        """Run a health check: (exit code, output). Cancelled, it is killed."""
        container = self.records.get(id)
        asked = ExecCreate(cmd=check.command, attach_stdout=True, attach_stderr=True)
        ours, theirs = sockets.socketpair()
        ours.setblocking(False)
        request = AttachRequest(framed=False)
        output = b""
        with ours:
            try:
                spec = self._process(container, asked, None)
                async with self._moving(id) as task:
                    process = await task.exec(
                        secrets.token_hex(32), spec, Stdio(), stream=theirs, request=request
                    )
            except (CannotRun, Conflict, NotFound) as error:
                return -1, str(error).encode()
            try:
                loop = asyncio.get_running_loop()
                while len(output) < MOST_PROBE_OUTPUT and (chunk := await loop.sock_recv(ours, 65536)):
                    output += chunk
                return await process.wait(), output
            except asyncio.CancelledError:
                await process.signal(9)
                raise

    @asynccontextmanager
    async def _moving(self, id: str) -> AsyncIterator[Task]:
        """The container's task; nobody freezes it meanwhile for a copy of its files. NotFound, Conflict."""
        async with self.live.locks[id]:
            _require_ready(self.records.get(id))
            yield self.live.task(id)

    def _unstarted(self, id: str) -> tuple[Exec, Container]:
        found = self._get(id)
        if found.running or found.code is not None:
            raise Conflict(f"Error: Exec command {id} has already run")
        container = self.records.get(found.container)
        _require_ready(container)
        return found, container

    def _process(self, container: Container, wish: ExecCreate, size: tuple[int, ...] | None) -> oci.Process:
        host = container.host
        who = self.starting.identities.of(container, wish.user or container.config.user)
        granted = security.capabilities(
            add=host.cap_add,
            drop=host.cap_drop,
            privileged=host.privileged or wish.privileged,
            defaults=self.ground.capabilities,
            available=self.ground.available,
        )
        return translate.exec_process(
            container.config,
            host,
            command=wish.cmd or (),
            env=(*self.starting.sandboxes.environment(container), *(wish.env or ())),
            working_dir=wish.working_dir,
            tty=wish.tty,
            size=size,
            who=who,
            granted=granted,
            ground=self.ground,
        )

    def _get(self, id: str) -> Exec:
        found = self._execs.get(id)
        if found is None:
            raise NotFound(f"No such exec instance: {id}")
        return found

    def _forget_old(self) -> None:
        if len(self._execs) <= 2 * KEPT_AFTER:
            return
        ended = [e.id for e in self._execs.values() if e.code is not None]
        for id in ended[:-KEPT_AFTER]:
            del self._execs[id]


def _require_ready(container: Container) -> None:
    states.require_running(container.state, container.id)
    if container.state.paused:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")


def _shown(wish: ExecCreate) -> str:
    """As Docker writes a command in events: a blank follows its first word, whatever comes then."""
    first, *rest = wish.cmd or ("",)
    return f"{first} {' '.join(rest)}"
