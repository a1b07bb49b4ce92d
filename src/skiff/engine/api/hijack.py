"""Taking a client's socket out of HTTP: attach and exec carry raw streams after the headers.

    handler ── hijack ──► headers written, aiohttp lets go ──► socket + the bytes it had read too far

After that the engine is out of the data path: the socket goes to the monitor. A TLS client has no plain
socket to give away: one end of a socket pair goes instead and the engine relays.
aiohttp's early bytes (`_message_tail`) and its list of connections are private to it; both are touched here
and nowhere else.
"""

import asyncio
import os
import socket
from typing import Any, Final, NamedTuple

from aiohttp import web

from skiff.errors import Unavailable

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"


class Taken(NamedTuple):
    """stream: blocking, ours to close or pass on. early: bytes that the client sent already."""

    stream: socket.socket
    early: bytes


class Hijacked(web.Response):
    """What a handler returns after `take`: nothing more is to be said on this connection."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    @property
    def prepared(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Headers were written by `take`."""

    async def write_eof(self, data: Any = b"") -> None:
        """The stream is not ours to end."""


def hold(request: web.BaseRequest) -> None:
    """Read no more from this client until `take`: what follows the request is stream, not HTTP."""
    transport = request.transport
    if transport is not None and transport.is_reading():
        transport.pause_reading()


def upgrade_headers(request: web.BaseRequest, content_type: str) -> bytes:
    """101 for those who asked to upgrade, 200 and a stream to the end of the connection for older ones."""
    protocol = request.headers.get("Upgrade", "")
    if protocol and protocol.isascii() and protocol.isprintable():
        return (
            f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
            f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        ).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n".encode()


async def take(request: web.BaseRequest, content_type: str) -> Taken:
    """Answer with headers and take the connection. Unavailable if the client is gone already."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise Unavailable("the client is gone")
    hold(request)
    protocol: Any = request.protocol
    transport.write(upgrade_headers(request, content_type))
    while transport.get_write_buffer_size():
        # A client that does not read even the headers is on its way out, or very slow.
        await asyncio.sleep(0.005)
        if transport.is_closing():
            raise Unavailable("the client is gone")
    early = bytes(protocol._message_tail)
    protocol._message_tail = b""
    _forget(protocol)
    if transport.get_extra_info("sslcontext") is not None:
        return Taken(_relayed(transport), early)
    taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    taken.setblocking(True)
    # `abort` closes without shutdown(2), so our duplicate stays connected.
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return Taken(taken, early)


def _forget(protocol: Any) -> None:
    """Let aiohttp believe that the connection was lost, without its cancelling the handler in progress."""
    protocol.keep_alive(False)
    protocol._manager.connection_lost(protocol)
    protocol._force_close = True
    protocol.transport = None


def _relayed(transport: asyncio.Transport) -> socket.socket:
    """The far end of a socket pair whose near end is joined to the client's transport."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(True)
    Relay(transport, near)
    return far


class Relay(asyncio.Protocol):
    """Copies between a client's transport and a socket, both ways, as fast as the slower one reads."""

    def __init__(self, transport: asyncio.Transport, near: socket.socket) -> None:
        self.client = transport
        self.near = near
        self.loop = asyncio.get_running_loop()
        self.pending = bytearray()
        self.client_ended = False
        transport.set_protocol(self)
        self.loop.add_reader(near.fileno(), self.from_engine)
        transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.pending += data
        self.client.pause_reading()
        self.flush()

    def eof_received(self) -> bool:
        self.client_ended = True
        self.flush()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def pause_writing(self) -> None:
        if self.near.fileno() >= 0:
            self.loop.remove_reader(self.near.fileno())

    def resume_writing(self) -> None:
        if self.near.fileno() >= 0:
            self.loop.add_reader(self.near.fileno(), self.from_engine)

    def from_engine(self) -> None:
        try:
            data = self.near.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.client.write(data)
        else:
            self.close()

    def flush(self) -> None:
        if self.near.fileno() < 0:
            return
        try:
            while self.pending:
                del self.pending[: self.near.send(self.pending)]
        except BlockingIOError:
            self.loop.add_writer(self.near.fileno(), self.flush)
            return
        except OSError:
            self.close()
            return
        self.loop.remove_writer(self.near.fileno())
        if self.client_ended:
            self.near.shutdown(socket.SHUT_WR)
        elif not self.client.is_closing():
            self.client.resume_reading()

    def close(self) -> None:
        if self.near.fileno() >= 0:
            self.loop.remove_reader(self.near.fileno())
            self.loop.remove_writer(self.near.fileno())
            self.near.close()
        if not self.client.is_closing():
            self.client.close()
