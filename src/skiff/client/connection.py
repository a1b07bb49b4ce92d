"""A small blocking HTTP/1.1 client for one engine: keep-alive, chunks, upgrades. Built-in modules only.

No policy, no endpoints (client/engine.py), no redirects, no cookies. One idle connection is kept; a request
made while a response is still being read opens another one, so streams and calls do not disturb each other.

    request ─► Response ─► read() · json() · chunks() · lines() · pour() back to the idle slot at its end
    hijack  ─► Stream (the raw socket and what was already read)         never comes back
"""

from __future__ import annotations

import _socket

from skiff.client import json_text
from skiff.client.endpoint import CannotConnect, Endpoint, dial
from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Protocol

    from skiff.client.bulk import FilePart

    Pieces = Iterator[bytes | FilePart]

    class Socket(Protocol):
        """What a unix, tcp, TLS or ssh connection can do."""

        def sendall(self, data: bytes | bytearray | memoryview, /) -> None: ...
        def send(self, data: bytes, flags: int, /) -> int: ...
        def recv(self, size: int, /) -> bytes: ...
        def recv_into(self, buffer: bytearray, /) -> int: ...
        def fileno(self) -> int: ...
        def shutdown(self, how: int, /) -> None: ...
        def close(self) -> None: ...


READ_SIZE = 256 * 1024
_SO_SNDBUFFORCE = 32  # socket(7); Python has no name for it
_ON_ITS_WAY = 4 << 20  # bytes
HEAD_LIMIT = 1 << 20
_ENDLESS = 1 << 62
API_VERSION = "1.51"
TOO_NEW = "Maximum supported API version is"


class EngineError(SkiffError):
    """The engine answered with a 4xx or 5xx. str(): Docker's `Error response from daemon: …`.

    status: the HTTP status; message: the engine's own sentence; detail: what it shows a person beneath.
    """

    def __init__(self, status: int, message: str, detail: str = "") -> None:
        super().__init__(f"Error response from daemon: {message}{detail}")
        self.status = status
        self.message = message


class BrokenReply(SkiffError):
    """The engine hung up, or what it said is not HTTP."""


class Stream:
    """A hijacked connection: raw bytes in both directions.

    early: bytes of the stream that came with the response's head; `recv` gives them first.
    """

    def __init__(self, sock: Socket, early: bytes, content_type: str) -> None:
        self.sock = sock
        self.early = early
        self.content_type = content_type

    def fileno(self) -> int:
        return self.sock.fileno()

    def recv(self, size: int = READ_SIZE) -> bytes:
        """b"" at the end."""
        if self.early:
            data, self.early = self.early[:size], self.early[size:]
            return data
        return self.sock.recv(size)

    def recv_into(self, buffer: bytearray) -> int:
        """0 at the end. Once `early` is read."""
        return self.sock.recv_into(buffer)

    def sendall(self, data: bytes | memoryview) -> None:
        self.sock.sendall(data)

    def send_some(self, data: bytes) -> int:
        """As much as fits at once; -1 when the other side reads no more."""
        try:
            return self.sock.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return -1

    def close_write(self) -> None:
        """Half-close: the other side reads the end of our input."""
        try:
            self.sock.shutdown(_socket.SHUT_WR)
        except OSError:
            pass  # it is gone altogether; reading tells

    def close(self) -> None:
        self.sock.close()


class Response:
    """status, headers (lower-case names), and a body that is read once."""

    def __init__(
        self, connection: Connection, sock: Socket, status: int, headers: dict[str, str], early: bytes
    ):
        self._connection = connection
        self._sock: Socket | None = sock
        self._buffer = early
        self.status = status
        self.headers = headers
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._in_chunk = False
        length = headers.get("content-length")
        self._left = 0  # bytes of the chunk, or of the body
        self._until_close = False
        if status in (204, 304):
            self._chunked = False
        elif not self._chunked:
            self._until_close = length is None
            self._left = _ENDLESS if length is None else int(length)

    def take(self, most: int = _ENDLESS) -> bytes:
        """The next bytes of the body as they come; b"" at its end. Raises BrokenReply."""
        room = min(most, self._room())
        data = (self._buffer or self._recv()) if room else b""
        if not data:
            if room and not self._until_close:
                raise BrokenReply("error during connect: unexpected EOF")
            self._end()
            return b""
        data, self._buffer = data[:room], data[room:]
        self._left -= len(data)
        return data

    def pour(self, fd: int, size: int) -> None:
        """The next size bytes of the body into an open file. Raises BrokenReply, OSError."""
        from skiff.client import bulk, streams

        while size:
            room = min(size, self._room())
            moved = bulk.drain(self._sock, fd, room) if self._sock is not None and not self._buffer else 0
            self._left -= moved
            if not moved:
                data = self.take(size)
                if not data:
                    raise BrokenReply("error during connect: unexpected EOF")
                streams.write_all(fd, memoryview(data))
                moved = len(data)
            size -= moved

    def chunks(self) -> Iterator[bytes]:
        """The body's bytes as they come."""
        while data := self.take():
            yield data

    def read(self) -> bytes:
        return b"".join(self.chunks())

    def json(self) -> Any:
        """The whole body decoded; None for an empty one. Raises BrokenReply."""
        body = self.read()
        if not body.strip():
            return None
        try:
            return json_text.decode(body)
        except ValueError as error:
            raise BrokenReply(f"the engine's reply is not JSON: {error}") from error

    def lines(self) -> Iterator[Any]:
        """A stream of JSON values, one per line (NDJSON)."""
        held = b""
        for data in self.chunks():
            *whole, held = (held + data).split(b"\n")
            for line in whole:
                if line.strip():
                    yield json_text.decode(line)
        if held.strip():
            yield json_text.decode(held)

    def fileno(self) -> int:
        """To poll for the body; -1 when some of it is here already."""
        return -1 if self._sock is None or self._buffer else self._sock.fileno()

    def close(self) -> None:
        """Give up what is left of the body."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _end(self) -> None:
        if self._sock is None:
            return
        if self._until_close or self.headers.get("connection", "").lower() == "close":
            self._sock.close()
        else:
            self._connection.give_back(self._sock)
        self._sock = None

    def _recv(self) -> bytes:
        assert self._sock is not None
        try:
            return self._sock.recv(READ_SIZE)
        except OSError as error:
            raise BrokenReply(f"error during connect: {error.strerror or error}") from error

    def _room(self) -> int:
        """Bytes that are left of this chunk, else of the next one; 0 at the end of the body."""
        if not self._left and self._chunked:
            if self._in_chunk:
                self._line()
            try:
                self._left = int(self._line().split(b";", 1)[0], 16)
            except ValueError:
                raise BrokenReply("error during connect: malformed chunked encoding") from None
            self._in_chunk = True
            if not self._left:
                self._chunked = False
                while self._line():
                    pass
        return self._left

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self._recv()
            if not data or len(self._buffer) > HEAD_LIMIT:
                raise BrokenReply("error during connect: unexpected EOF")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")


class Connection:
    """Requests to one endpoint. Not for threads.

    user_headers: HttpHeaders of config.json. version: sent as /v1.51 before each path; one that nobody pinned
    is lowered when the engine says that it is too new. on_absent: called once when nobody listens; True: try
    again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        user_headers: Mapping[str, str] | None = None,
        version: str = "",
        on_absent: Callable[[], bool] | None = None,
        agent: str = "skiff-client",
    ) -> None:
        self.endpoint = endpoint
        self._agent = agent
        self._on_absent = on_absent
        self._pinned = bool(version)
        self.version = version or API_VERSION
        self.user_headers = dict(user_headers or {})
        self._idle: Socket | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: object = None,
        body: Pieces | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        versioned: bool = True,
    ) -> Response:
        """The head of the answer; its body is still to be read.

        json: encoded as the body; body: bytes, or pieces sent in chunks. query: None values are left out,
        True is "1", lists repeat. Raises EngineError for 4xx and 5xx, CannotConnect, PermissionDenied,
        BrokenReply.
        """
        response = self._send(method, path, query, json, body, headers or {}, versioned)
        if response.status < 400:
            return response
        error = engine_error(response)
        if self._lowers(error) and (body is None or isinstance(body, bytes)):
            return self.request(
                method, path, query=query, json=json, body=body, headers=headers, versioned=versioned
            )
        raise error

    def hijack(
        self,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> Stream:
        """POST and take the connection over: attach, exec start. Returns once the engine has agreed."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp", **(headers or {})}
        response = self._send(method, path, query, json, None, upgrade, True)
        if response.status >= 400:
            error = engine_error(response)
            if self._lowers(error):
                return self.hijack(path, query=query, json=json, headers=headers, method=method)
            raise error
        sock, response._sock = response._sock, None
        assert sock is not None
        return Stream(sock, response._buffer, response.headers.get("content-type", ""))

    def give_back(self, sock: Socket) -> None:
        if self._idle is None:
            self._idle = sock
        else:
            sock.close()

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        json: object,
        body: Pieces | bytes | None,
        headers: Mapping[str, str],
        versioned: bool,
    ) -> Response:
        target = (f"/v{self.version}" if versioned else "") + path + query_string(query)
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self.endpoint.host_header}",
            f"User-Agent: {self._agent}",
        ]
        if json is not None:
            body = json_text.encode(json)
            lines.append("Content-Type: application/json")
        pieces: Pieces | None = None
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif body is not None:
            pieces, body = body, None
            lines.append("Transfer-Encoding: chunked")
        elif method in ("POST", "PUT"):
            lines.append("Content-Length: 0")
        lines += [f"{name}: {value}" for name, value in (self.user_headers | dict(headers)).items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        sock, reused = self._take()
        try:
            return self._exchange(sock, head + (body or b""), pieces, method)
        except (BrokenReply, OSError) as error:
            sock.close()
            # An idle connection may have been closed under us; nothing of the reply came, so ask once more.
            if not reused or pieces is not None or getattr(error, "began", False):
                if isinstance(error, OSError):
                    raise BrokenReply(f"error during connect: {error.strerror or error}") from error
                raise
        sock = dial(self.endpoint)
        return self._exchange(sock, head + (body or b""), None, method)

    def _lowers(self, error: EngineError) -> bool:
        """Did the engine name an older version as its newest? Then that is ours from now on."""
        newest = error.message.partition(TOO_NEW)[2].strip(" .")
        if error.status != 400 or self._pinned or not newest or newest == self.version:
            return False
        self.version = newest
        return True

    def _dial(self) -> Socket:
        try:
            return dial(self.endpoint)
        except CannotConnect:
            absent, self._on_absent = self._on_absent, None
            if absent is None or not absent():
                raise
        return dial(self.endpoint)

    def _take(self) -> tuple[Socket, bool]:
        sock, self._idle = self._idle, None
        return (sock, True) if sock is not None else (self._dial(), False)

    def _exchange(self, sock: Socket, data: bytes, pieces: Pieces | None, method: str) -> Response:
        sock.sendall(data)
        if pieces is not None:
            _widen(sock)
            try:
                for piece in pieces:
                    if not piece:
                        continue
                    if isinstance(piece, bytes):  # one word to whoever waits for it, not three
                        sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                    else:
                        sock.sendall(b"%x\r\n" % len(piece))
                        piece.send(sock)
                        sock.sendall(b"\r\n")
                sock.sendall(b"0\r\n\r\n")
            except BrokenPipeError:
                pass  # the engine may refuse before it has read everything: its answer is what counts
        status, headers, early = read_head(sock)
        response = Response(self, sock, status, headers, early)
        if method == "HEAD":
            response._left, response._chunked, response._until_close = 0, False, False
            response._end()
        return response


def _widen(sock: Socket) -> None:
    """Let much be on its way: a full buffer costs a turn of two processes."""
    if type(sock) is _socket.socket and sock.family == _socket.AF_UNIX:
        try:
            sock.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ON_ITS_WAY)
        except PermissionError:
            pass  # as much as everybody may have


def read_head(sock: Socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the bytes behind them. Skips 100 Continue. Raises BrokenReply."""
    buffer = b""
    while True:
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            data = sock.recv(READ_SIZE)
            if not data or len(buffer) > HEAD_LIMIT:
                broken = BrokenReply("error during connect: unexpected EOF")
                broken.began = bool(buffer)  # type: ignore[attr-defined]
                raise broken
            buffer += data
            continue
        first, *rest = buffer[:end].decode("latin-1").split("\r\n")
        buffer = buffer[end + 4 :]
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            broken = BrokenReply(f"error during connect: malformed HTTP response {first[:80]!r}")
            broken.began = True  # type: ignore[attr-defined]
            raise broken
        if words[1] == "100":
            continue
        headers = {}
        for line in rest:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers, buffer


def engine_error(response: Response) -> EngineError:
    """Docker's {"message": …}, a registry's {"errors": [{"message": …}]}; any other body as it is."""
    body = response.read()
    detail = ""
    try:
        told = json_text.decode(body)
        message = told["errors"][0]["message"] if "errors" in told else told["message"]
        detail = str(told.get("detail", ""))
    except (ValueError, KeyError, TypeError, IndexError):
        text = body.decode("utf-8", "replace").strip()
        message = text or f"request returned {response.status} without a message"
    return EngineError(response.status, message, detail)


def query_string(query: Mapping[str, Any] | None) -> str:
    """?a=1&b=x; dicts become JSON (filters)."""
    pairs = []
    for name, value in (query or {}).items():
        if value is None:
            continue
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True or one is False:
                one = "1" if one else "0"
            elif isinstance(one, dict):
                one = json_text.encode(one).decode()
            pairs.append(f"{name}={quote(str(one))}")
    return "?" + "&".join(pairs) if pairs else ""


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def quote(text: str, safe: bytes = b"") -> str:
    """Percent-encoding, RFC 3986 § 2.1."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(c) if c in _PLAIN or c in safe else f"%{c:02X}" for c in data)
