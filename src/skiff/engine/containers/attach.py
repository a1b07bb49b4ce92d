"""A client's socket joins a container's streams: before the first byte, or while it runs, with or without its log."""

from socket import socket

from skiff.engine.execution.runtime import AttachRequest


class Attachments:
    async def attach(
        self, text: str, stream: socket, request: AttachRequest, *, logs: bool = False, live: bool = True
    ) -> None:
        """The socket is ours from now on and is closed here or by the monitor; a created container waits for start.

        The door has answered 101 or 200 already: call `check` before. logs: first replay what was logged.
        """
        raise NotImplementedError

    def check(self, text: str) -> bool:
        """True if it has a terminal (the door's content type). NotFound, Conflict (paused, restarting)."""
        raise NotImplementedError
