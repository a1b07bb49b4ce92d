"""/skiff/containers/{id}/egress: where a container may send packets, and what it was refused.

Not in Docker's API.
"""

from collections.abc import Iterator

from aiohttp import web

from skiff.docker.units import rfc3339
from skiff.docker.wire import Wire
from skiff.engine.api.app import Route, get, json
from skiff.engine.api.call import Call
from skiff.engine.containers.record import Records
from skiff.engine.networks import egress
from skiff.engine.networks.service import Networks


class EgressEntry(Wire, frozen=True):
    """verdict: allowed or refused. first, last: RFC 3339."""

    verdict: str
    destination: str
    count: int
    first: str
    last: str


class Egress(Wire, frozen=True):
    """policies: by network. entries: the latest last."""

    policies: dict[str, str]
    entries: tuple[EgressEntry, ...]


class EgressRoutes:
    def __init__(self, networks: Networks, containers: Records) -> None:
        self.networks = networks
        self.containers = containers

    def routes(self) -> Iterator[Route]:
        yield get("/skiff/containers/{id}/egress", self.show)

    async def show(self, call: Call) -> web.Response:
        id = self.containers.find(call["id"]).id
        records = self.networks.records
        return json(
            Egress(
                policies={
                    records.networks[e.network].name: e.egress or egress.ALL for e in records.of_owner(id)
                },
                entries=tuple(
                    EgressEntry(e.verdict, e.destination, e.count, rfc3339(e.first_ns), rfc3339(e.last_ns))
                    for e in self.networks.sandboxes.guard.entries(id)
                ),
            )
        )
