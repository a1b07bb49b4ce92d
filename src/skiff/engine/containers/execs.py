"""Further processes in running containers: create, start, resize, inspect. Their records live in memory."""

from socket import socket

from skiff.docker.exec import ExecCreate, ExecInspect, ExecStart


class Execs:
    async def create(self, text: str, wish: ExecCreate) -> str:
        """The new exec's id (64 hex). NotFound, Conflict (not running, paused), InvalidParameter."""
        raise NotImplementedError

    def check(self, id: str) -> bool:
        """True if it has a terminal. NotFound `No such exec instance: x`, Conflict (already ran, not running)."""
        raise NotImplementedError

    async def start(self, id: str, wish: ExecStart, stream: socket | None, early: bytes = b"") -> None:
        """Returns once the command runs; the socket goes to the monitor. CannotRun, Conflict, NotFound.

        stream: None when detached. early: stdin bytes that came with the request.
        """
        raise NotImplementedError

    async def resize(self, id: str, *, rows: int, columns: int) -> None:
        raise NotImplementedError

    def inspect(self, id: str) -> ExecInspect:
        raise NotImplementedError
