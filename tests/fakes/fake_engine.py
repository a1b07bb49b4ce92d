"""An engine for the command line's tests: a threaded HTTP server on a unix socket.

Routes are functions of a Request; every request is kept in `requests`. A route that takes the connection over
(attach, exec start) is given the raw socket.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Request:
    method: str
    path: str  # without /v1.51
    version: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    sock: socket.socket = field(repr=False)
    reader: BinaryIO = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    status: int = 200
    body: object = None  # JSON, or bytes as they are
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] | None = None  # sent chunked, instead of body
    close: bool = False


def upgrade(request: Request, content_type: str = "application/vnd.docker.multiplexed-stream") -> None:
    request.sock.sendall(
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        + f"Content-Type: {content_type}\r\n\r\n".encode()
    )


def frame(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


Route = Callable[[Request], Reply | None]


class FakeEngine:
    """`with FakeEngine(path) as engine:`; engine.route("POST /containers/create")(function)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.requests: list[Request] = []
        self.connections = 0
        self._routes: list[tuple[str, re.Pattern[str], Route]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def route(self, line: str) -> Callable[[Route], Route]:
        method, _, pattern = line.partition(" ")

        def keep(route: Route) -> Route:
            self._routes.insert(0, (method, re.compile(pattern), route))
            return route

        return keep

    def __enter__(self) -> FakeEngine:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as reader, contextlib.suppress(OSError):
            while (request := self._read(sock, reader)) is not None:
                self.requests.append(request)
                reply = self._answer(request)
                if reply is None:
                    return
                self._send(sock, request, reply)
                if reply.close:
                    return

    @staticmethod
    def _read(sock: socket.socket, reader: BinaryIO) -> Request | None:
        first = reader.readline().decode()
        if not first:
            return None
        method, target, _ = first.split()
        headers = {}
        while line := reader.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(FakeEngine._chunks(reader))
        else:
            body = reader.read(int(headers.get("content-length", 0)))
        parts = urlsplit(target)
        match = re.match(r"/v(\d+\.\d+)(/.*)", parts.path)
        version, path = (match[1], match[2]) if match else ("", parts.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        return Request(method, unquote(path), version, query, headers, body, sock, reader)

    @staticmethod
    def _chunks(reader: BinaryIO) -> Iterator[bytes]:
        while size := int(reader.readline(), 16):
            yield reader.read(size)
            reader.readline()
        reader.readline()

    def _answer(self, request: Request) -> Reply | None:
        for method, pattern, route in self._routes:
            if method == request.method and pattern.fullmatch(request.path):
                return route(request)
        return Reply(404, {"message": "page not found"})

    @staticmethod
    def _send(sock: socket.socket, request: Request, reply: Reply) -> None:
        headers = dict(reply.headers)
        body = reply.body if isinstance(reply.body, bytes) else b""
        if reply.body is not None and not isinstance(reply.body, bytes):
            body = json.dumps(reply.body).encode()
            headers.setdefault("Content-Type", "application/json")
        if reply.chunks is not None:
            headers["Transfer-Encoding"] = "chunked"
        elif not reply.close:
            headers["Content-Length"] = str(len(body))
        head = (
            f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        )
        sock.sendall(head.encode())
        if request.method == "HEAD":
            return
        if reply.chunks is None:
            sock.sendall(body)
            return
        for chunk in reply.chunks:
            sock.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        sock.sendall(b"0\r\n\r\n")
