"""/networks. Engine API, tag Network."""

from collections.abc import Iterator
from typing import Final

from aiohttp import web

from skiff.docker import filters
from skiff.docker.network import (
    EndpointSettings,
    NetworkConnect,
    NetworkCreate,
    NetworkCreateResponse,
    NetworkDisconnect,
)
from skiff.engine.api import wishes
from skiff.engine.api.absent import NOT_A_MANAGER
from skiff.engine.api.app import Route, delete, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.containers.record import Records
from skiff.engine.containers.sandboxes import check_connectable, owner
from skiff.engine.networks import views
from skiff.engine.networks.service import Networks
from skiff.errors import Forbidden, InvalidParameter, NotFound, Unavailable

FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
PRUNE_FILTERS: Final = ("label", "label!", "until")
TRUTHS: Final = ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False")


class NetworkRoutes:
    def __init__(self, networks: Networks, containers: Records) -> None:
        self.networks = networks
        self.containers = containers

    def routes(self) -> Iterator[Route]:
        yield get("/networks", self.list)
        yield get("/networks/{id}", self.inspect)
        yield delete("/networks/{id}", self.remove)
        yield post("/networks/create", self.create)
        yield post("/networks/prune", self.prune)
        yield post("/networks/{id}/connect", self.connect)
        yield post("/networks/{id}/disconnect", self.disconnect)

    async def list(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), FILTERS)
        records = self.networks.records
        return json([views.inspect(records, n, containers=False) for n in self.networks.all(asked)])

    async def inspect(self, call: Call) -> web.Response:
        # verbose adds what swarm knows of a network: of ours nothing.
        verbose = call.text("verbose")
        if verbose and verbose not in TRUTHS:
            problem = f'strconv.ParseBool: parsing "{verbose}": invalid syntax'
            raise InvalidParameter(f"invalid value for verbose: {verbose}: {problem}")
        if call.text("scope") not in ("", "local"):
            raise NotFound(f"network {call['id']} not found")
        return json(views.inspect(self.networks.records, self.networks.find(call["id"])))

    async def create(self, call: Call) -> web.Response:
        wish = wishes.network(await call.json(NetworkCreate), call.version)
        if wish.driver == "overlay":
            raise Unavailable(NOT_A_MANAGER)
        network = self.networks.create(wish)
        return json(NetworkCreateResponse(id=network.id), status=201)

    async def remove(self, call: Call) -> web.Response:
        self.networks.remove(call["id"])
        return web.Response(status=204)

    async def prune(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), PRUNE_FILTERS)
        return json({"NetworksDeleted": self.networks.prune(asked) or None})

    async def connect(self, call: Call) -> web.Response:
        wish = await call.json(NetworkConnect)
        container = self.containers.find(wish.container)
        check_connectable(container)
        settings = wish.endpoint_config or EndpointSettings()
        await self.networks.connect(call["id"], owner(container), settings)
        return web.Response(status=200)

    def _check_endpoint(self, container: str) -> None:
        """With force, Docker looks for an endpoint and not for a container. NotFound."""
        try:
            self.containers.find(container)
        except NotFound:
            raise NotFound(f"endpoint {container} not found") from None

    async def disconnect(self, call: Call) -> web.Response:
        wish = await call.json(NetworkDisconnect)
        if wish.force:
            self._check_endpoint(wish.container)
        container = self.containers.find(wish.container)
        if container.host.network_mode == "host" and self.networks.find(call["id"]).name == "host":
            raise Forbidden(
                "cannot disconnect container from host network - container was created in host network mode"
            )
        await self.networks.disconnect(call["id"], owner(container))
        return web.Response(status=200)
