"""/skiff/containers/…, /skiff/volumes/…: snapshots, forks, clones, rollbacks."""

from collections.abc import Iterator

from aiohttp import web

from skiff.engine.api.app import Route, delete, empty, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.containers.branches import Branches
from skiff.engine.volumes.branches import VolumeBranches


class BranchRoutes:
    def __init__(self, containers: Branches, volumes: VolumeBranches) -> None:
        self.containers = containers
        self.volumes = volumes

    def routes(self) -> Iterator[Route]:
        yield get("/skiff/containers/{id}/snapshots", self.list)
        yield post("/skiff/containers/{id}/snapshots", self.snapshot)
        yield delete("/skiff/containers/{id}/snapshots/{name}", self.remove)
        yield post("/skiff/containers/{id}/fork", self.fork)
        yield post("/skiff/containers/{id}/rollback", self.rollback)
        yield get("/skiff/volumes/{volume}/snapshots", self.volume_list)
        yield post("/skiff/volumes/{volume}/snapshots", self.volume_snapshot)
        yield delete("/skiff/volumes/{volume}/snapshots/{name}", self.volume_remove)
        yield post("/skiff/volumes/{volume}/clone", self.volume_clone)
        yield post("/skiff/volumes/{volume}/rollback", self.volume_rollback)

    async def list(self, call: Call) -> web.Response:
        return json(self.containers.list(call["id"]))

    async def snapshot(self, call: Call) -> web.Response:
        return json(await self.containers.snapshot(call["id"], call.text("name")), 201)

    async def remove(self, call: Call) -> web.Response:
        self.containers.remove(call["id"], call["name"])
        return empty()

    async def fork(self, call: Call) -> web.Response:
        return json({"Id": await self.containers.fork(call["id"], call.text("name"))}, 201)

    async def rollback(self, call: Call) -> web.Response:
        saved = await self.containers.rollback(call["id"], call.text("name"))
        return json({"Saved": saved.name})

    async def volume_list(self, call: Call) -> web.Response:
        return json([{"Name": name} for name in self.volumes.list(call["volume"])])

    async def volume_snapshot(self, call: Call) -> web.Response:
        await self.volumes.snapshot(call["volume"], call.text("name"))
        return empty(201)

    async def volume_remove(self, call: Call) -> web.Response:
        await self.volumes.remove(call["volume"], call["name"])
        return empty()

    async def volume_clone(self, call: Call) -> web.Response:
        return json(await self.volumes.clone(call["volume"], call.text("name")), 201)

    async def volume_rollback(self, call: Call) -> web.Response:
        return json({"Saved": await self.volumes.rollback(call["volume"], call.text("name"))})
