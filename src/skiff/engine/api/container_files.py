"""/containers/{id}/ archive, changes, export; /commit: a container's files. Engine API, Container.

Bytes do not pass through the engine: whoever packs writes to the client's own socket.
"""

import asyncio
import base64
import socket
from collections.abc import Iterator

from aiohttp import web

from skiff.docker.container import ContainerConfig
from skiff.engine.api import streaming
from skiff.engine.api.app import Route, get, head, json, post, put
from skiff.engine.api.call import Call, encode
from skiff.engine.api.headers import STANDARD
from skiff.engine.containers.commit import Commits
from skiff.engine.containers.files import AHEAD, Files
from skiff.engine.containers.visiting.visits import Visit
from skiff.errors import SkiffError
from skiff.linux.fds import widen_socket

PIECE = 1 << 18
STAT = "X-Docker-Container-Path-Stat"
TAR = "application/x-tar"


class ContainerFileRoutes:
    def __init__(self, files: Files, commits: Commits) -> None:
        self.files = files
        self.commits = commits

    def routes(self) -> Iterator[Route]:
        yield head("/containers/{id}/archive", self.stat)
        yield get("/containers/{id}/archive", self.read)
        yield put("/containers/{id}/archive", self.write)
        yield get("/containers/{id}/changes", self.changes)
        yield get("/containers/{id}/export", self.export)
        yield get("/skiff/containers/{id}/names", self.names)
        yield post("/commit", self.commit)

    async def stat(self, call: Call) -> web.Response:
        found = await self.files.stat(call["id"], call.filename("path"))
        return web.Response(headers={STAT: _encoded(found)})

    async def read(self, call: Call) -> web.StreamResponse:
        async with self.files.reading(call["id"], call.filename("path")) as visit:
            response = web.StreamResponse(
                headers={**STANDARD, "Content-Type": TAR, STAT: _encoded(visit.stat)}
            )
            return await pour(call.request, response, visit)

    async def write(self, call: Call) -> web.Response:
        async with streaming.upload(call.request) as archive:
            await self.files.put(
                call["id"],
                call.filename("path"),
                archive,
                keep_kind=call.flag("noOverwriteDirNonDir"),
                as_user=call.flag("copyUIDGID"),
            )
        return web.Response()

    async def names(self, call: Call) -> web.Response:
        return json({"Names": await self.files.names(call["id"], call.filename("path"))})

    async def changes(self, call: Call) -> web.Response:
        found = await self.files.changes(call["id"])
        return json(found or None)

    async def export(self, call: Call) -> web.StreamResponse:
        async with self.files.exporting(call["id"]) as visit:
            response = web.StreamResponse(headers={**STANDARD, "Content-Type": "application/octet-stream"})
            return await pour(call.request, response, visit)

    async def commit(self, call: Call) -> web.Response:
        id = await self.commits.commit(
            call.text("container"),
            repository=call.text("repo"),
            tag=call.text("tag"),
            author=call.text("author"),
            comment=call.text("comment"),
            pause=call.flag("pause", call.version >= (1, 13)),
            changes=[line for text in call.texts("changes") for line in text.split("\n") if line.strip()],
            config=await call.body(ContainerConfig, required=False),
        )
        return json({"Id": id}, 201)


async def pour(request: web.BaseRequest, response: web.StreamResponse, visit: Visit) -> web.StreamResponse:
    """The reply's headers, then the visit's bytes. A failure on the way ends the connection."""
    is_framed = request.version >= (1, 1)
    if is_framed:
        response.enable_chunked_encoding()
    else:
        response.force_close()
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        return response
    try:
        if transport.get_extra_info("sslcontext") is None:
            await _drained(transport)
            client = transport.get_extra_info("socket")
            widen_socket(client, AHEAD)  # a full buffer costs a turn of two processes
            await visit.go(client.fileno(), framed=is_framed)
            await visit.answer()
        else:
            await _relay(response, visit)
    except BaseException:
        # the headers are out: a broken body is the only way left to say that something is wrong
        transport.abort()
        raise
    if not transport.is_closing():
        await response.write_eof()
    return response


async def _relay(response: web.StreamResponse, visit: Visit) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            await visit.go(theirs.fileno())
        while data := await loop.sock_recv(ours, PIECE):
            await response.write(data)
    await visit.answer()


async def _drained(transport: asyncio.WriteTransport) -> None:
    """Until what was written has left this process: somebody else writes to the socket next."""
    while transport.get_write_buffer_size():
        await asyncio.sleep(0.001)
        if transport.is_closing():
            raise SkiffError("the client is gone")


def _encoded(stat: dict[str, object]) -> str:
    return base64.b64encode(encode(stat)).decode()
