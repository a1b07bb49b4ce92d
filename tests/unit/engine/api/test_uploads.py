"""Archives that go past the event loop: the body is read from the socket, and the connection serves on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web
from tests.unit.engine.api.serving import head, serving

from skiff.engine.api import streaming
from skiff.engine.api.app import Route, put
from skiff.engine.api.call import Call
from skiff.engine.storage.chunks import Chunks
from skiff.engine.storage.uploads import Upload
from skiff.errors import Conflict

CHUNKED = b"PUT /c/archive?path=/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
COUNTED = b"PUT /c/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


class Measuring:
    """Answers with the size of what came, and how."""

    def __init__(self) -> None:
        self.refuses = False

    def routes(self) -> Iterator[Route]:
        yield put("/c/archive", self.measure)

    async def measure(self, call: Call) -> web.Response:
        async with streaming.upload(call.request) as body:
            if self.refuses:
                raise Conflict("no")
            if not isinstance(body, Upload):
                return web.Response(text=f"loop {sum([len(chunk) async for chunk in body])}")
            beginning = await body.head(4)
            stream, early = body.begin()
            chunks = Chunks(stream.fileno(), early)
            size = await asyncio.to_thread(self._size, chunks)
            body.close(ended=chunks.drain())
            return web.Response(text=f"direct {beginning.decode()} {size}")

    def _size(self, chunks: Chunks) -> int:
        size = 0
        while piece := chunks.read(1 << 20):
            size += len(piece)
        return size


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    status, headers = await head(reader)
    return status, (await reader.readexactly(int(headers["content-length"]))).decode()


async def test_one_connection_serves_both_kinds_again_and_again(tmp_path: Path) -> None:
    async with serving([Measuring()], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(2):
            writer.write(CHUNKED)
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"6\r\nabcdef\r\n100000\r\n" + b"x" * 0x100000 + b"\r\n0\r\n\r\n")
            assert await answer(reader) == (200, "direct abcd 1048582")
            writer.write(COUNTED + b"12345")
            assert await answer(reader) == (200, "loop 5")
            writer.write(CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n")
            assert await answer(reader) == (200, "direct abcd 4")
        writer.close()


async def test_a_refused_archive_may_be_sent_to_its_end(tmp_path: Path) -> None:
    room = Measuring()
    room.refuses = True
    async with serving([room], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        for _ in range(2):
            writer.write(CHUNKED + b"4\r\nabcd\r\n")
            status, message = await answer(reader)
            assert (status, "no" in message) == (409, True)
            writer.write(b"100000\r\n" + b"x" * 0x100000 + b"\r\n0\r\n\r\n")
            await writer.drain()
        writer.close()


async def test_what_is_left_of_a_broken_body_is_no_request(tmp_path: Path) -> None:
    async with serving([Measuring()], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(CHUNKED + b"4\r\nabcdzz\r\n" + COUNTED + b"12345")
        status, _ = await answer(reader)
        assert status == 400
        assert await reader.read() == b""
        writer.close()


async def test_a_body_that_looks_like_a_request_is_a_body(tmp_path: Path) -> None:
    async with serving([Measuring()], tmp_path) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(COUNTED.replace(b": 5", b": %d" % len(CHUNKED)))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(CHUNKED)
        assert await answer(reader) == (200, f"loop {len(CHUNKED)}")
        writer.close()
