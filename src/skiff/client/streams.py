"""The engine's streams, taken apart: stdcopy frames (8-byte heads) into stdout and stderr, by whole buffers.

frame:  stream (0 stdin, 1 stdout, 2 stderr, 3 engine's error) · 0 0 0 · length (big endian, 4 bytes) ·
payload
"""

from __future__ import annotations

import posix

from skiff.client.connection import BrokenReply

HEAD = 8


class Demultiplexer:
    """Feed it bytes as they come; it writes each frame's payload to its file descriptor at once.

    A frame need not be whole: payloads are passed on in pieces, so memory stays small.
    """

    def __init__(self, out: int, err: int) -> None:
        self._fds = (out, out, err)
        self._head = b""
        self._left = 0
        self._to = out
        self._error: bytearray | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenReply for an unknown stream, or when the engine reports its own failure."""
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._left:
                take = min(self._left, end - at)
                if self._error is not None:
                    self._error += view[at : at + take]
                else:
                    write_all(self._to, view[at : at + take])
                at += take
                self._left -= take
                if not self._left and self._error is not None:
                    raise BrokenReply(
                        f"error from daemon in stream: {self._error.decode('utf-8', 'replace')}"
                    )
                continue
            need = HEAD - len(self._head)
            self._head += bytes(view[at : at + need])
            at += need
            if len(self._head) < HEAD:
                return
            stream = self._head[0]
            if stream > 3 or self._head[1:4] != b"\0\0\0":
                raise BrokenReply(f"unrecognized stream: {stream}")
            if stream == 3:
                self._error = bytearray()
            else:
                self._to = self._fds[stream]
            self._left = int.from_bytes(self._head[4:8], "big")
            self._head = b""


class Raw:
    """The same face for a terminal's stream: bytes go to one descriptor."""

    def __init__(self, out: int) -> None:
        self._out = out

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        write_all(self._out, memoryview(data))


def write_all(fd: int, view: memoryview) -> None:
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            # Somebody made our stdout non-blocking (it is shared with other programs); wait for it.
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
