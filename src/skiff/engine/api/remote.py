"""/distribution, /images/search: what registries say. Engine API, tags Distribution and Image."""

from collections.abc import Iterator

from aiohttp import web

from skiff.docker import filters
from skiff.engine.api.app import Route, get, json
from skiff.engine.api.call import Call
from skiff.engine.api.registry_auth import from_header
from skiff.engine.images.remote import SEARCH_FILTERS, Remote
from skiff.engine.registry.auth import Credentials
from skiff.errors import InvalidParameter


class RemoteRoutes:
    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def routes(self) -> Iterator[Route]:
        yield get("/images/search", self.search)
        yield get("/distribution/{name+}/json", self.inspect)
        yield get("/skiff/distribution/{name+}/manifests", self.manifests)

    async def search(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), SEARCH_FILTERS)
        try:
            limit = call.number("limit")
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid limit specified: {error}") from None
        return json(await self.remote.search(call.text("term"), asked, limit, _who(call)))

    async def inspect(self, call: Call) -> web.Response:
        return json(await self.remote.describe(call["name"], _who(call)))

    async def manifests(self, call: Call) -> web.Response:
        return json(await self.remote.manifests(call["name"], _who(call), insecure=call.flag("insecure")))


def _who(call: Call) -> Credentials | None:
    return from_header(call.request.headers.get("X-Registry-Auth", ""))
