import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.unit.engine.api.serving import head, serving

from skiff.engine.api import hijack
from skiff.engine.api.app import App, Route, post
from skiff.engine.api.call import Call
from skiff.errors import Conflict

REQUEST = b"POST /attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


class Upper:
    """Takes the socket and answers in capitals until the client ends its half; then says goodbye."""

    def __init__(self) -> None:
        self.early: list[bytes] = []
        self.wait = asyncio.Event()
        self.wait.set()

    def routes(self) -> Iterator[Route]:
        yield post("/attach", self.attach)

    async def attach(self, call: Call) -> web.StreamResponse:
        await self.wait.wait()
        taken = await hijack.take(call.request, hijack.RAW)
        self.early.append(taken.early)
        await asyncio.to_thread(self._serve, taken.stream, taken.early)
        return hijack.Hijacked()

    def _serve(self, stream: socket.socket, early: bytes) -> None:
        with stream:
            stream.sendall(early.upper())
            while data := stream.recv(1 << 16):
                stream.sendall(data.upper())
            stream.sendall(b"goodbye")


class Refusing:
    def routes(self) -> Iterator[Route]:
        yield post("/attach", self.attach)

    async def attach(self, call: Call) -> web.StreamResponse:
        raise Conflict("it is paused")


async def test_an_upgraded_client_gets_101_and_may_end_its_half(tmp_path: Path) -> None:
    room = Upper()
    async with serving([room], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(REQUEST + UPGRADE + b"\r\n")
        status, headers = await head(reader)
        assert status == 101
        assert headers["upgrade"] == "tcp"
        assert headers["content-type"] == hijack.RAW
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.write_eof()
        assert await reader.read() == b"goodbye"


async def test_an_old_client_gets_200(tmp_path: Path) -> None:
    async with serving([Upper()], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(REQUEST + b"\r\n")
        status, headers = await head(reader)
        assert status == 200
        assert "transfer-encoding" not in headers
        writer.write(b"x" * 200_000)
        writer.write_eof()
        assert await reader.read() == b"X" * 200_000 + b"goodbye"


async def test_bytes_sent_with_the_request_are_not_lost(tmp_path: Path) -> None:
    room = Upper()
    room.wait.clear()
    async with serving([room], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(REQUEST + UPGRADE + b"\r\nearly ")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"late")
        writer.write_eof()
        await asyncio.sleep(0.05)
        room.wait.set()
        await head(reader)
        assert await reader.read() == b"EARLY LATEgoodbye"


async def test_a_refused_stream_leaves_the_connection_usable(tmp_path: Path) -> None:
    async with serving([Refusing()], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(2):
            writer.write(REQUEST + UPGRADE + b"\r\n")
            status, headers = await head(reader)
            assert status == 409
            await reader.readexactly(int(headers["content-length"]))
        writer.write(REQUEST + b"\r\n" + REQUEST + b"\r\n")
        for _ in range(2):
            status, headers = await head(reader)
            assert status == 409
            await reader.readexactly(int(headers["content-length"]))
        writer.close()


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"POST /a HTTP/1.1\r\n\r\nrest", 20),
        (b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef", 42),
        (b"POST /a HTTP/1.1\r\ncontent-length:3\r\n\r\nab", 41),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
        (b"POST /a HTTP/1.1\r\nHost", 0),
    ],
)
def test_where_a_request_ends(data: bytes, length: int) -> None:
    assert hijack.request_length(data) == length


async def test_aiohttp_forgets_the_connection(tmp_path: Path) -> None:
    app = App([Upper()])
    factory = app.server()
    path = str(tmp_path / "s")
    server = await asyncio.get_running_loop().create_unix_server(factory, path)
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST + UPGRADE + b"\r\n")
            await head(reader)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert not factory.connections
        assert (
            len(os.listdir("/proc/self/fd")) <= before
        )  # one of an earlier test may have been closed meanwhile
    finally:
        server.close()
        await factory.shutdown(0.1)


async def test_a_relay_carries_both_ways_and_the_end(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    path = str(tmp_path / "r")
    made: list[hijack.Relay] = []

    class Arriving(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            made.append(hijack.Relay(transport, near))

    server = await loop.create_unix_server(Arriving, path)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"a" * 500_000)
    received = b""
    while len(received) < 500_000:
        received += await loop.sock_recv(far, 1 << 16)
    await loop.sock_sendall(far, b"b" * 300_000)
    writer.write_eof()
    assert await loop.sock_recv(far, 1) == b""
    far.close()
    assert await reader.read() == b"b" * 300_000
    writer.close()
    server.close()
