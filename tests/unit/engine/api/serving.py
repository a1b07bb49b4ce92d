"""A door on a unix socket of its own, and a client that says exactly what it is told to."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from skiff.engine.api.app import App, Routes


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@asynccontextmanager
async def serving(rooms: Iterable[Routes], directory: Path) -> AsyncIterator[str]:
    """The path of the socket."""
    app = App(rooms)
    factory = app.server()
    path = str(directory / "s")
    server = await asyncio.get_running_loop().create_unix_server(factory, path)
    try:
        yield path
    finally:
        server.close()
        await factory.shutdown(0.1)


async def ask(
    path: str, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request, one answer, over a connection of its own."""
    reader, writer = await asyncio.open_unix_connection(path)
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += [f"Content-Length: {len(body)}"]
        if not headers or "Content-Type" not in headers:
            lines += ["Content-Type: application/json"]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
    status, received = await head(reader)
    rest = await reader.read()
    writer.close()
    if received.get("transfer-encoding") == "chunked":
        rest = unchunked(rest)
    return Answer(status, received, rest)


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in raw[1:] if line)
    return int(raw[0].split()[1]), {name.lower(): value for name, value in pairs}


def unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        whole, data = whole + data[:length], data[length + 2 :]
    return whole
