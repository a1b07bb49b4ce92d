"""/containers/{id}/ attach, attach/ws, logs, stats: what flows. Engine API, tag Container."""

import asyncio
import socket
import time
from collections.abc import Iterator

from aiohttp import WSMsgType, web

from skiff.engine.api import hijack, streaming
from skiff.engine.api.app import Route, get, post
from skiff.engine.api.call import Call, encode
from skiff.engine.containers.keys import detach_keys
from skiff.engine.containers.logs import LogQuery
from skiff.engine.containers.service import Containers
from skiff.engine.execution.runtime import AttachRequest
from skiff.errors import InvalidParameter

CHUNK = 1 << 16


class ContainerStreamRoutes:
    def __init__(self, containers: Containers) -> None:
        self.containers = containers

    def routes(self) -> Iterator[Route]:
        yield post("/containers/{id}/attach", self.attach)
        yield get("/containers/{id}/attach/ws", self.attach_websocket)
        yield get("/containers/{id}/logs", self.logs)
        yield get("/containers/{id}/stats", self.stats)

    async def attach(self, call: Call) -> web.StreamResponse:
        has_terminal = self.containers.attachments.check(call["id"])
        keys = _keys(call)
        taken = await hijack.take(call.request, content_type(call, has_terminal))
        request = AttachRequest(
            stdin=call.flag("stdin"),
            stdout=call.flag("stdout"),
            stderr=call.flag("stderr"),
            framed=not has_terminal,
            early=taken.early,
            detach_keys=keys,
        )
        await self.containers.attachments.attach(
            call["id"], taken.stream, request, logs=call.flag("logs"), live=call.flag("stream")
        )
        return hijack.Hijacked()

    async def attach_websocket(self, call: Call) -> web.StreamResponse:
        """Raw output in binary messages; each message that comes is stdin."""
        self.containers.attachments.check(call["id"])
        every = call.version < (1, 42)  # which streams was not asked then
        request = AttachRequest(
            stdin=every or call.flag("stdin"),
            stdout=every or call.flag("stdout"),
            stderr=every or call.flag("stderr"),
            framed=False,
            detach_keys=_keys(call),
        )
        client = web.WebSocketResponse()
        if not client.can_prepare(call.request):
            raise InvalidParameter("expected a websocket handshake")
        await client.prepare(call.request)
        near, far = socket.socketpair()
        near.setblocking(False)
        with near:
            await self.containers.attachments.attach(
                call["id"], far, request, logs=call.flag("logs"), live=call.flag("stream")
            )
            await _join(client, near)
        await client.close()
        return client

    async def logs(self, call: Call) -> web.StreamResponse:
        stdout, stderr = call.flag("stdout"), call.flag("stderr")
        if not stdout and not stderr:
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        now = time.time_ns()
        tail = call.text("tail")
        query = LogQuery(
            stdout=stdout,
            stderr=stderr,
            # Anything but a number means all lines, as in Docker.
            tail=int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 18 else None,
            since=call.instant("since", now) or 0,
            until=call.instant("until", now) or 0,
            follow=call.flag("follow"),
            timestamps=call.flag("timestamps"),
            details=call.flag("details"),
        )
        has_terminal, chunks = self.containers.logs.read(call["id"], query)
        response = await streaming.begin(call.request, content_type(call, has_terminal))
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response

    async def stats(self, call: Call) -> web.StreamResponse:
        stream = call.flag("stream", True)
        figures = self.containers.stats.read(
            call["id"], stream=stream, one_shot=call.flag("one-shot", since=(1, 41)) and not stream
        )
        response = await streaming.begin(call.request)
        async for document in figures:
            await response.write(encode(document) + b"\n")
        await response.write_eof()
        return response


def _keys(call: Call) -> bytes:
    text = call.text("detachKeys")
    try:
        return detach_keys(text)
    except InvalidParameter:
        raise InvalidParameter(f"Invalid detach keys ({text}) provided") from None


def content_type(call: Call, has_terminal: bool) -> str:
    """Docker names the framed stream only since API 1.42."""
    return hijack.RAW if has_terminal or call.version < (1, 42) else hijack.MULTIPLEXED


async def _join(client: web.WebSocketResponse, near: socket.socket) -> None:
    """Copy both ways until the container's side ends or the client leaves."""
    loop = asyncio.get_running_loop()

    async def outward() -> None:
        while data := await loop.sock_recv(near, CHUNK):
            await client.send_bytes(data)

    async def inward() -> None:
        async for message in client:
            if message.type is WSMsgType.TEXT:
                await loop.sock_sendall(near, message.data.encode())
            elif message.type is WSMsgType.BINARY:
                await loop.sock_sendall(near, message.data)
        near.shutdown(socket.SHUT_WR)

    async with asyncio.TaskGroup() as group:
        incoming = group.create_task(inward())
        outgoing = group.create_task(outward())
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
        incoming.cancel()
        outgoing.cancel()
