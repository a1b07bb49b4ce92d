"""/skiff/containers/{id}/ports: publish and unpublish while the container runs. Not in Docker's API.

Body: {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}}, as in HostConfig.
"""

from collections.abc import Iterator

from aiohttp import web
from msgspec import field

from skiff.docker.network import PortMap
from skiff.docker.wire import Wire
from skiff.engine.api.app import Route, delete, empty, post
from skiff.engine.api.call import Call
from skiff.engine.containers.ports import Ports


class PortsBody(Wire, frozen=True):
    port_bindings: PortMap = field(default_factory=dict)


class PortRoutes:
    def __init__(self, ports: Ports) -> None:
        self.ports = ports

    def routes(self) -> Iterator[Route]:
        yield post("/skiff/containers/{id}/ports", self.add)
        yield delete("/skiff/containers/{id}/ports", self.remove)

    async def add(self, call: Call) -> web.Response:
        await self.ports.add(call["id"], (await call.json(PortsBody)).port_bindings)
        return empty()

    async def remove(self, call: Call) -> web.Response:
        await self.ports.remove(call["id"], (await call.json(PortsBody)).port_bindings)
        return empty()
