"""A client's socket joins a container's streams: before the first byte, or while it runs."""

import asyncio
import contextlib
from collections import defaultdict
from socket import socket, socketpair

from msgspec import Struct

from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.live import Live
from skiff.engine.containers.logs import LogQuery, Logs
from skiff.engine.containers.record import Records
from skiff.engine.execution.runtime import AttachRequest, Task
from skiff.errors import Conflict, NotFound
from skiff.linux.fds import unread

HEADERS_MS = 100  # that a client gets to read the headers of an answer


class _Waiting(Struct, frozen=True):
    stream: socket
    request: AttachRequest


class Attachments:
    def __init__(self, *, records: Records, live: Live, logs: Logs, announce: Announcer) -> None:
        self.records = records
        self.live = live
        self.logs = logs
        self.announce = announce
        self._waiting: defaultdict[str, list[_Waiting]] = defaultdict(list)

    def check(self, text: str) -> bool:
        """True if it has a terminal (the door's content type). NotFound, Conflict (paused, restarting)."""
        container = self.records.find(text)
        state = container.state
        if state.paused:
            raise Conflict(f"container {text} is paused, unpause the container before attach")
        if state.restarting:
            raise Conflict(f"container {text} is restarting, wait until the container is running")
        return container.config.tty

    async def attach(
        self, text: str, stream: socket, request: AttachRequest, *, logs: bool = False, live: bool = True
    ) -> None:
        """The socket is ours and is closed here or by the monitor. A container that is down waits for start.

        The door has answered 101 or 200 already: call `check` before. logs: first replay what was logged.
        """
        try:
            container = self.records.find(text)
            if logs:
                await _headers_read(stream)
            if not live:
                if logs:
                    await self._replay(container.id, stream, request)
                stream.close()
                return
            self.announce(container, "attach")
            task = self.live.tasks.get(container.id)
            if task is not None and container.state.running:
                if logs:
                    await self._replay_and_join(task, stream, request)
                else:
                    await task.attach(stream, request)
            else:
                if logs:
                    await self._replay(container.id, stream, request)
                self._waiting[container.id].append(_Waiting(stream, request))
        except (NotFound, Conflict, ConnectionError):
            stream.close()  # it ended meanwhile, or the client left: it sees the end of the stream
        except BaseException:
            stream.close()
            raise

    async def connect(self, id: str, task: Task) -> None:
        """The task is ready and has not started: whoever waits joins now."""
        for waiting in self._waiting.pop(id, ()):
            with contextlib.suppress(Conflict):  # it has ended: its start tells so
                await task.attach(waiting.stream, waiting.request)

    def abandon(self, id: str) -> None:
        """There will be no task: whoever waits sees the end."""
        for waiting in self._waiting.pop(id, ()):
            waiting.stream.close()

    async def _replay_and_join(self, task: Task, stream: socket, request: AttachRequest) -> None:
        """The monitor keeps live output back until what is logged already has been sent."""
        opener, gate = socketpair()
        with opener, stream.dup() as replay:
            with gate:
                instant = await task.attach(stream, request, gate=gate)
            await self._replay(task.id, replay, request, until=instant)

    async def _replay(self, id: str, stream: socket, request: AttachRequest, until: int = 0) -> None:
        query = LogQuery(stdout=request.stdout, stderr=request.stderr, until=until)
        _, chunks = self.logs.read(id, query)
        loop = asyncio.get_running_loop()
        stream.setblocking(False)
        # It stays so: the monitor may share it by now.
        async for chunk in chunks:
            await loop.sock_sendall(stream, chunk)


async def _headers_read(stream: socket) -> None:
    """Until the client has taken what is sent, or a moment has passed.

    docker-py reads the headers through a buffer and the rest from the bare socket: what comes in one piece
    with the headers it never sees.
    """
    for _ in range(HEADERS_MS):
        if not unread(stream.fileno()):
            return
        await asyncio.sleep(0.001)
