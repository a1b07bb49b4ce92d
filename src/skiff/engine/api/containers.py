"""/containers: create, list, inspect and the acts. Engine API, tag Container."""

from collections.abc import Iterator
from typing import Any, get_args

from aiohttp import web
from msgspec.structs import replace

from skiff.docker import filters
from skiff.docker.container import ContainerCreate, ContainerUpdate
from skiff.docker.wire import convert
from skiff.engine.api import streaming, views, wishes
from skiff.engine.api.app import Route, delete, empty, get, json, post
from skiff.engine.api.call import Call, encode
from skiff.engine.containers.lifecycle import WaitCondition
from skiff.engine.containers.service import Containers
from skiff.engine.containers.views import LIST_FILTERS
from skiff.errors import Forbidden, InvalidParameter

PRUNE_FILTERS = ("label", "label!", "until")
MAC_DEPRECATED = (
    "The container-wide MacAddress field is now deprecated. "
    "It should be specified in EndpointsConfig instead."
)


class ContainerRoutes:
    def __init__(self, containers: Containers) -> None:
        self.containers = containers

    def routes(self) -> Iterator[Route]:
        yield post("/containers/create", self.create)
        yield get("/containers/json", self.list)
        yield post("/containers/prune", self.prune)
        yield get("/containers/{id}/json", self.inspect)
        yield get("/containers/{id}/top", self.top)
        yield post("/containers/{id}/start", self.start)
        yield post("/containers/{id}/stop", self.stop)
        yield post("/containers/{id}/restart", self.restart)
        yield post("/containers/{id}/kill", self.kill)
        yield post("/containers/{id}/pause", self.pause)
        yield post("/containers/{id}/unpause", self.unpause)
        yield post("/containers/{id}/rename", self.rename)
        yield post("/containers/{id}/resize", self.resize)
        yield post("/containers/{id}/update", self.update)
        yield post("/containers/{id}/wait", self.wait, cancel=True)
        yield delete("/containers/{id+}", self.remove)  # a link's name has a slash: me/alias

    async def create(self, call: Call) -> web.Response:
        # Docker tells an absent configuration from one with empty fields.
        raw: Any = await call.body(dict[str, Any]) or {}
        if not raw.keys() - {"HostConfig", "NetworkingConfig"}:
            raise InvalidParameter("config cannot be empty in order to create a container")
        wish = wishes.create(convert(raw, ContainerCreate), call.version)
        made = await self.containers.creation.create(
            wish, name=call.text("name"), platform=call.text("platform", since=(1, 41))
        )
        if call.version >= (1, 44) and wish.mac_address:
            made = replace(made, warnings=(*made.warnings, MAC_DEPRECATED))
        return json(made, 201)

    async def list(self, call: Call) -> web.Response:
        found = await self.containers.views.list(
            filters.parse(call.text("filters"), LIST_FILTERS),
            all=call.flag("all"),
            limit=call.number("limit") or 0,
            size=call.flag("size"),
        )
        return json([views.container_summary(row, call.version) for row in found])

    async def inspect(self, call: Call) -> web.Response:
        return json(await self.containers.views.inspect(call["id"], size=call.flag("size")))

    async def top(self, call: Call) -> web.Response:
        return json(await self.containers.top.top(call["id"], call.text("ps_args") or "-ef"))

    async def start(self, call: Call) -> web.Response:
        if (await call.request.read()).strip() not in (b"", b"{}", b"null"):
            raise InvalidParameter(
                "starting container with non-empty request body was deprecated since API v1.22 "
                "and removed in v1.24"
            )
        if call.text("checkpoint"):
            raise InvalidParameter("checkpoint is only supported in experimental mode")
        if call.text("checkpoint-dir"):
            raise Forbidden("custom checkpointdir is not supported")
        # detachKeys means nothing here, as in Docker: those who attach say theirs.
        await self.containers.lifecycle.start(call["id"])
        return empty()

    async def stop(self, call: Call) -> web.Response:
        await self.containers.lifecycle.stop(
            call["id"], signal=call.text("signal", since=(1, 42)), timeout=call.number("t")
        )
        return empty()

    async def restart(self, call: Call) -> web.Response:
        await self.containers.lifecycle.restart(
            call["id"], signal=call.text("signal", since=(1, 42)), timeout=call.number("t")
        )
        return empty()

    async def kill(self, call: Call) -> web.Response:
        await self.containers.lifecycle.kill(call["id"], signal=call.text("signal"))
        return empty()

    async def pause(self, call: Call) -> web.Response:
        await self.containers.lifecycle.pause(call["id"])
        return empty()

    async def unpause(self, call: Call) -> web.Response:
        await self.containers.lifecycle.unpause(call["id"])
        return empty()

    async def rename(self, call: Call) -> web.Response:
        await self.containers.lifecycle.rename(call["id"], call.text("name"))
        return empty()

    async def resize(self, call: Call) -> web.Response:
        rows, columns = call.window()
        await self.containers.lifecycle.resize(call["id"], rows=rows, columns=columns)
        return empty(200)

    async def update(self, call: Call) -> web.Response:
        wish = wishes.update(await call.json(ContainerUpdate), call.version)
        return json(await self.containers.lifecycle.update(call["id"], wish))

    async def wait(self, call: Call) -> web.StreamResponse:
        condition = call.text("condition", since=(1, 30)) or "not-running"
        if condition not in get_args(WaitCondition):
            raise InvalidParameter(f'invalid condition: "{condition}"')
        # A client that sees the headers knows that the wait has begun, and may start the container.
        answer = self.containers.lifecycle.wait(call["id"], condition)  # type: ignore[arg-type]
        response = await streaming.begin(call.request)
        await response.write(encode(await answer) + b"\n")
        await response.write_eof()
        return response

    async def remove(self, call: Call) -> web.Response:
        await self.containers.lifecycle.remove(
            call["id"], force=call.flag("force"), volumes=call.flag("v"), link=call.flag("link")
        )
        return empty()

    async def prune(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), PRUNE_FILTERS)
        return json(await self.containers.lifecycle.prune(asked))
