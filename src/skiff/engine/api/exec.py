"""/exec and /containers/{id}/exec. Engine API, tag Exec."""

import socket
from collections.abc import Iterator

from aiohttp import web

from skiff.docker import stdcopy
from skiff.docker.exec import ExecCreate, ExecStart
from skiff.engine.api import hijack, wishes
from skiff.engine.api.app import Route, empty, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.api.container_io import content_type
from skiff.engine.containers.service import Containers
from skiff.errors import SkiffError


class ExecRoutes:
    def __init__(self, containers: Containers) -> None:
        self.execs = containers.execs

    def routes(self) -> Iterator[Route]:
        yield post("/containers/{id}/exec", self.create)
        yield post("/exec/{id}/start", self.start)
        yield post("/exec/{id}/resize", self.resize)
        yield get("/exec/{id}/json", self.inspect)

    async def create(self, call: Call) -> web.Response:
        wish = wishes.exec(await call.json(ExecCreate), call.version)
        id = await self.execs.create(call["id"], wish)
        return json({"Id": id}, 201)

    async def start(self, call: Call) -> web.StreamResponse:
        wish = await call.body(ExecStart, required=False) or ExecStart()
        spec = self.execs.prepare(call["id"], wish)
        if wish.detach:
            await self.execs.start(call["id"], spec, wish, None)
            return empty(200)
        taken = await hijack.take(call.request, content_type(call, wish.tty))
        # The status is out: what goes wrong from here is told where the output would be.
        with taken.stream.dup() as spare:
            try:
                await self.execs.start(call["id"], spec, wish, taken.stream, taken.early)
            except SkiffError as error:
                _tell(spare, f"{error}\r\n".encode(), framed=not wish.tty)
        return hijack.Hijacked()

    async def resize(self, call: Call) -> web.Response:
        rows, columns = call.window()
        await self.execs.resize(call["id"], rows=rows, columns=columns)
        return empty(200)

    async def inspect(self, call: Call) -> web.Response:
        return json(self.execs.inspect(call["id"]))


def _tell(client: socket.socket, text: bytes, *, framed: bool) -> None:
    try:
        client.sendall(stdcopy.frame(stdcopy.STDOUT, text) if framed else text)
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The client is gone; the exec's own record has the failure.
        return
