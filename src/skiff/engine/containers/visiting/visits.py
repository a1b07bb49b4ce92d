"""The engine's end of the visitor: starts it, hands it jobs. The engine itself never enters a container."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from skiff.errors import HostileArchive, InvalidParameter, NotFound, SkiffError

_START = """import sys
sys.path[:] = sys.argv[2:]
from skiff.engine.containers.visiting import visitor
visitor.main(int(sys.argv[1]))
"""
_LARGEST_ANSWER = 1 << 18


class Visit:
    """One job under way. stat: what its path names, as the API spells it; names: what is in it.

    ended: the child has read the body it was given exactly to its end.
    """

    def __init__(self, control: socket.socket, path: str, container: str) -> None:
        self._control = control
        self._path = path
        self._container = container
        self.stat: dict[str, Any] = {}
        self.ended = False
        self.names: list[str] = []

    async def opened(self) -> "Visit":
        """The child is inside and has looked. NotFound, InvalidParameter, SkiffError."""
        answer = await self.answer()
        self.stat, self.names = answer.get("stat", {}), answer.get("names", [])
        return self

    async def go(self, data: int, early: int | None = None, *, framed: bool = False) -> None:
        """Let the bytes flow through the descriptor data, which is duplicated; `answer` tells the end.

        framed: in HTTP chunks. early: a file with what was read of them before.
        """
        fds = [data] if early is None else [data, early]
        socket.send_fds(self._control, [b"framed" if framed else b"plain"], fds)

    async def answer(self) -> dict[str, Any]:
        """The child's next words. SkiffError when it failed."""
        data = await asyncio.get_running_loop().sock_recv(self._control, _LARGEST_ANSWER)
        if not data:
            raise SkiffError(f"looking into container {self._container} was interrupted")
        answer: dict[str, Any] = json.loads(data)
        message = answer.get("message", "")
        self.ended = answer.get("ended", False)
        match answer.get("error"):
            case None:
                return answer
            case "missing":
                raise NotFound(f"Could not find the file {self._path} in container {self._container}")
            case "invalid":
                raise InvalidParameter(message)
            case "hostile":
                raise HostileArchive(message)
            case _:
                raise SkiffError(message)

    def close(self) -> None:
        """The child ends, wherever it is."""
        self._control.close()


class Visitor:
    """One helper process, started when needed."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._door: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def visit(
        self, job: Mapping[str, Any], fds: Sequence[int], *, path: str = "", container: str = ""
    ) -> Visit:
        """A job begins; fds: mount namespace and root of a running container, or none. See visitor.py."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        message = json.dumps(dict(job)).encode()
        with ExitStack() as stack, theirs:
            stack.callback(ours.close)
            async with self._lock:
                door = self._door if self._is_alive() else None
                if door is None:
                    door = await asyncio.to_thread(self._started)
                try:
                    socket.send_fds(door, [message], [theirs.fileno(), *fds])
                except (BrokenPipeError, ConnectionResetError):  # it left for idleness this instant
                    self._stop()
                    door = await asyncio.to_thread(self._started)
                    socket.send_fds(door, [message], [theirs.fileno(), *fds])
            stack.pop_all()
        return Visit(ours, path, container)

    def close(self) -> None:
        self._stop()

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _started(self) -> socket.socket:
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-ISEc", _START, str(theirs.fileno()), *filter(None, sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
            )
        self._door = ours
        return ours

    def _stop(self) -> None:
        door, self._door = self._door, None
        process, self._process = self._process, None
        if door is not None:
            door.close()
        if process is not None:
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:  # it has a child at work; both end with their sockets
                return
