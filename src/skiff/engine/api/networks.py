"""/networks: the two networks that need no driver, `host` and `none`. Engine API, tag Network."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from skiff.docker import filters
from skiff.docker.filters import Filters
from skiff.docker.network import NetworkContainer, NetworkInspect
from skiff.engine.api.app import Route, delete, get, json, post
from skiff.engine.api.call import Call
from skiff.errors import Forbidden, InvalidParameter, NotFound, NotImplementedHere

FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")

Members = Callable[[str], Mapping[str, NetworkContainer]]
"""The running containers of a network, by id."""


def predefined(created: str, seed: str) -> tuple[NetworkInspect, ...]:
    """`none` and `host`, with ids that stay the same for one engine. seed: hex digits of the engine's id."""
    return tuple(
        NetworkInspect(
            name=name,
            id=(mark + seed * 3)[:64].ljust(64, "0"),
            created=created,
            driver=driver,
            options={},
            labels={},
        )
        for name, driver, mark in (("none", "null", "a0"), ("host", "host", "b0"))
    )


class NetworkRoutes:
    def __init__(self, networks: tuple[NetworkInspect, ...], members: Members) -> None:
        self.networks = networks
        self.members = members

    def routes(self) -> Iterator[Route]:
        yield get("/networks", self.list)
        yield get("/networks/{id}", self.inspect)
        yield delete("/networks/{id}", self.remove)
        yield post("/networks/create", self.create)
        yield post("/networks/prune", self.prune)
        yield post("/networks/{id}/connect", self.connect)
        yield post("/networks/{id}/disconnect", self.connect)

    async def list(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), FILTERS)
        return json([network for network in self.networks if self._wanted(network, asked)])

    async def inspect(self, call: Call) -> web.Response:
        return json(self._shown(self._find(call["id"])))

    async def create(self, call: Call) -> web.Response:
        raise NotImplementedHere("skiff does not create networks yet: use --network none or host")

    async def connect(self, call: Call) -> web.Response:
        self._find(call["id"])
        raise NotImplementedHere("skiff does not connect containers to networks yet")

    async def remove(self, call: Call) -> web.Response:
        network = self._find(call["id"])
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")

    async def prune(self, call: Call) -> web.Response:
        filters.parse(call.text("filters"), ("label", "label!", "until"))
        return json({"NetworksDeleted": None})

    def _find(self, text: str) -> NetworkInspect:
        for network in self.networks:
            if text in (network.name, network.id):
                return network
        matches = [network for network in self.networks if text and network.id.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        raise NotFound(f"network {text} not found")

    def _shown(self, network: NetworkInspect) -> NetworkInspect:
        return replace(network, containers=dict(self.members(network.name)))

    def _wanted(self, network: NetworkInspect, asked: Filters) -> bool:
        kinds = asked.values("type")
        if any(kind not in ("builtin", "custom") for kind in kinds):
            raise InvalidParameter(f"invalid filter 'type={list(kinds)}'")
        if (kinds and "builtin" not in kinds) or asked.boolean("dangling"):
            return False
        return (
            asked.exact("driver", network.driver)
            and asked.starts("id", network.id)
            and (not asked.values("name") or any(name in network.name for name in asked.values("name")))
            and asked.exact("scope", network.scope)
            and asked.labels(network.labels)
        )
