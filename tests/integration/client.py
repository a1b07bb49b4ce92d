"""A client of the Engine API over a unix socket that hides nothing: status, headers, body, raw streams."""

import http.client
import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlencode


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection for each request."""

    def __init__(self, path: str, timeout: float = 60) -> None:
        self.path = path
        self.timeout = timeout

    def get(self, target: str, **query: Any) -> Reply:
        return self.request("GET", target, **query)

    def post(self, target: str, body: Any = None, **query: Any) -> Reply:
        return self.request("POST", target, body, **query)

    def delete(self, target: str, **query: Any) -> Reply:
        return self.request("DELETE", target, **query)

    def request(self, method: str, target: str, body: Any = None, **query: Any) -> Reply:
        """body: bytes as they are, anything else as JSON. query: dicts and lists as JSON."""
        headers = {}
        if body is not None:
            headers["Content-Type"] = "application/x-tar" if isinstance(body, bytes) else "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = self._connection()
        try:
            connection.request(method, target + _query(query), body, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())
        finally:
            connection.close()

    def stream(self, target: str, body: Any = None, **query: Any) -> tuple[socket.socket, str]:
        """An upgraded connection and its content type: attach, exec start."""
        raw = json.dumps(body).encode() if body is not None else b""
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(self.timeout)
        stream.connect(self.path)
        head = f"POST {target}{_query(query)} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        stream.sendall(head.encode() + raw)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            # Byte by byte: what follows the headers belongs to the stream.
            byte = stream.recv(1)
            assert byte, answer
            answer += byte
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        fields = dict(line.split(": ", 1) for line in answer.decode().split("\r\n")[1:] if line)
        return stream, fields["Content-Type"]

    def _connection(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", timeout=self.timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(self.timeout)
        connection.sock.connect(self.path)
        return connection


def read_to_end(stream: socket.socket) -> bytes:
    received = b""
    while data := stream.recv(1 << 16):
        received += data
    return received


def unframed(data: bytes) -> dict[int, bytes]:
    """The streams of multiplexed output, by number."""
    streams: dict[int, bytes] = {}
    while data:
        number, length = data[0], int.from_bytes(data[4:8], "big")
        streams[number] = streams.get(number, b"") + data[8 : 8 + length]
        data = data[8 + length :]
    return streams


def _query(query: dict[str, Any]) -> str:
    if not query:
        return ""
    pairs = {
        name: json.dumps(value)
        if isinstance(value, dict | list)
        else str(value).lower()
        if isinstance(value, bool)
        else value
        for name, value in query.items()
    }
    return "?" + urlencode(pairs)
