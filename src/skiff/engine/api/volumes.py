"""/volumes. Engine API, tag Volume."""

from collections.abc import Iterator

from aiohttp import web

from skiff.docker import filters
from skiff.docker.volume import VolumeCreate
from skiff.engine.api.absent import NOT_A_MANAGER
from skiff.engine.api.app import Route, delete, empty, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.volumes.service import LIST_FILTERS, PRUNE_FILTERS, Volumes
from skiff.errors import Unavailable


class VolumeRoutes:
    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes

    def routes(self) -> Iterator[Route]:
        yield get("/volumes", self.list)
        yield post("/volumes/create", self.create)
        yield get("/volumes/{name}", self.inspect)
        yield delete("/volumes/{name}", self.remove)
        yield post("/volumes/prune", self.prune)

    async def list(self, call: Call) -> web.Response:
        return json(self.volumes.list(filters.parse(call.text("filters"), LIST_FILTERS)))

    async def create(self, call: Call) -> web.Response:
        wish = await call.json(VolumeCreate)
        if wish.cluster_volume_spec is not None and call.version >= (1, 42):
            raise Unavailable(NOT_A_MANAGER)
        return json(await self.volumes.create(wish), 201)

    async def inspect(self, call: Call) -> web.Response:
        return json(self.volumes.inspect(call["name"]))

    async def remove(self, call: Call) -> web.Response:
        await self.volumes.remove(call["name"], force=call.flag("force"))
        return empty()

    async def prune(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), PRUNE_FILTERS)
        # Before 1.42 named volumes were pruned too, unasked.
        return json(await self.volumes.prune(asked, named=call.version < (1, 42)))
