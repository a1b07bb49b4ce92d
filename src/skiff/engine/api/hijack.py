"""Taking a client's socket out of HTTP: for raw streams (attach, exec), and for archives, which are large.

    handler ── take ──► headers written, aiohttp lets go ──► socket + the bytes it had read too far

After that the engine is out of the data path: the socket goes to the monitor. A TLS client has no plain
socket to give away: one end of a socket pair goes instead and the engine relays.
aiohttp's list of connections is private to it; it is touched here and nowhere else.
"""

import asyncio
import logging
import os
import re
import socket
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from skiff.engine.storage.uploads import Upload
from skiff.errors import Unavailable

log = logging.getLogger(__name__)

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


def upgrade_headers(request: web.BaseRequest, content_type: str) -> bytes:
    """101 for those who asked to upgrade, 200 and a stream to the end of the connection for older ones.

    Docker tells the former alone that a stream is framed.
    """
    protocol = request.headers.get("Upgrade", "")
    if protocol and protocol.isascii() and protocol.isprintable():
        return (
            f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
            f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        ).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n".encode()


async def take(request: web.BaseRequest, content_type: str) -> Taken:
    """Answer with headers and take the connection. Unavailable if the client is gone already."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise Unavailable("the client is gone")
    transport.pause_reading()
    protocol: Any = request.protocol
    transport.write(upgrade_headers(request, content_type))
    while transport.get_write_buffer_size():
        # A client that does not read even the headers is on its way out, or very slow.
        await asyncio.sleep(0.005)
        if transport.is_closing():
            raise Unavailable("the client is gone")
    early = protocol.taken()
    _forget(protocol)
    if transport.get_extra_info("sslcontext") is not None:
        return Taken(_relayed(transport), early)
    taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    taken.setblocking(True)
    # `abort` closes without shutdown(2), so our duplicate stays connected.
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return Taken(taken, early)


class Connection(RequestHandler):
    """One client. What follows the request for a stream is kept from the parser: it is not HTTP. So is the
    body of a request that uploads an archive, until the handler has decided who reads it.

    The end of that request (or of its head) is found where clients put it: in the first bytes of a message,
    with a length or without a body. (A request cut into several packets is parsed as usual; no client writes
    ahead then.)
    """

    __slots__ = ("_early", "_expects", "_holds")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._holds = False
        self._expects = 0
        self._early = b""

    def data_received(self, data: bytes) -> None:
        if self._holds and data:
            self._early += data
            return
        if self._expects:
            length = self._expects
        elif self._current_request is not None or self._messages:
            length = 0  # the body of a request: it may hold anything
        elif STREAM_REQUEST.match(data):
            length = request_length(data)
        elif UPLOAD_REQUEST.match(data):
            length = upload_head(data)
        else:
            length = 0
        if not length:
            super().data_received(data)
            return
        self._expects = max(0, length - len(data))
        if not self._expects:
            self._holds = True
            self._early = data[length:]
            if isinstance(self.transport, asyncio.Transport):
                self.transport.pause_reading()
        super().data_received(data[:length])

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client may end its half before the stream begins; the other half is still wanted."""
        return self._holds and self.ssl_context is None

    def _resume_transport_reading(self) -> None:
        if not self._holds:
            super()._resume_transport_reading()

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """What is no HTTP is the client's trouble: a line, not a traceback for each stray packet."""
        error = options.get("exc_info")
        if isinstance(error, HttpProcessingError):
            log.info("a request was refused: %s", type(error).__name__)
        else:
            super().log_exception(*arguments, **options)

    def taken(self) -> bytes:
        """What came after the request."""
        early, self._early = self._early, b""
        return early

    def release(self) -> None:
        """The answer was no stream after all: go on with HTTP."""
        if self._holds and not self._close:
            self._holds = False
            if isinstance(self.transport, asyncio.Transport) and not self.transport.is_closing():
                self.transport.resume_reading()
            early = self.taken()
            if early:
                super().data_received(early)

    def upload(self) -> Upload | None:
        """The body of the request, for others to read; None where there is no plain socket."""
        if not self._holds or not isinstance(self.transport, asyncio.Transport):
            return None
        if self.transport.is_closing() or self.ssl_context is not None:
            return None
        stream = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        return Upload(stream, self.taken(), self._uploaded)

    def _uploaded(self, unread: bytes | None, ended: bool) -> None:
        """The parser, which has seen the head, is told that the body has come; or gets it after all."""
        if not isinstance(self.transport, asyncio.Transport) or self.transport.is_closing():
            return
        if unread is not None:
            self._early = unread
            self.release()
            return
        super().data_received(b"0\r\n\r\n")
        if ended:
            self._holds = False
            self.transport.resume_reading()
        else:
            self.close()  # once the answer is sent: what is left of the body is no request


STREAM_REQUEST: Final = re.compile(rb"POST [^ ?]*/(?:attach|exec/[^/ ?]+/start)(?:\?[^ ]*)? HTTP/1")
UPLOAD_REQUEST: Final = re.compile(
    rb"(?:PUT [^ ?]*/archive|PUT [^ ?]*/skiff/build/contexts/[^ /?]+"
    rb"|POST [^ ?]*/images/load|POST [^ ?]*/images/create\?[^ ]*fromSrc=-)[^ ]*"
    rb" HTTP/1\.1\r"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CHUNKED_ALONE: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)


def request_length(data: bytes) -> int:
    """Bytes that the request at the start of data takes, body included; 0 when that is not known. Pure."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = data[: end + 2]
    if _CHUNKED.search(head):
        return 0
    length = _LENGTH.search(head)
    return end + 4 + (int(length[1]) if length else 0)


def upload_head(data: bytes) -> int:
    """Bytes of the head at the start of data, when it is whole and announces chunks; else 0. Pure."""
    end = data.find(b"\r\n\r\n")
    return end + 4 if end >= 0 and _CHUNKED_ALONE.search(data, 0, end + 2) else 0


class Server(web.Server):
    """aiohttp's low-level server with our connections."""

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


def release(request: web.BaseRequest) -> None:
    """The request for a stream was answered otherwise."""
    connection = request.protocol
    if isinstance(connection, Connection):
        connection.release()


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


def _half_closable(transport: asyncio.Transport) -> Callable[[], None]:
    """Let a TLS connection go on writing after its client has ended its half.

    asyncio answers a close_notify by closing altogether, and the docker client sends one at once when it has
    no stdin to give. Its protocol is told not to; what is returned undoes that, for the time to close.
    """
    layer: Any = getattr(transport, "_ssl_protocol", None)
    if layer is None:
        return lambda: None
    layer._start_shutdown = lambda *_: None
    return lambda: layer.__dict__.pop("_start_shutdown", None)


class Relay(asyncio.Protocol):
    """Copies between a client's transport and a socket, both ways, as fast as the slower one reads."""

    def __init__(self, transport: asyncio.Transport, near: socket.socket) -> None:
        self.client = transport
        self.near = near
        self.loop = asyncio.get_running_loop()
        self.pending = bytearray()
        self.client_ended = False
        self.shut_down = _half_closable(transport)
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
        # Meant for a plain connection; for TLS see _half_closable, and a true value would only be warned of.
        return self.client.get_extra_info("sslcontext") is None

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
            self.shut_down()
            self.client.close()
