"""What the API has and skiff has not: swarm answers as an engine in none, the rest with a sentence."""

from collections.abc import Iterator

from aiohttp import web

from skiff.engine.api.app import Handler, Route, get, json, post, put
from skiff.engine.api.call import Call
from skiff.errors import InvalidParameter, NotFound, NotImplementedHere, Unavailable

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node '
    "to swarm and try again."
)

SWARM = (
    ("GET", "/swarm"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    ("GET", "/nodes"),
    ("GET", "/nodes/{id}"),
    ("DELETE", "/nodes/{id}"),
    ("POST", "/nodes/{id}/update"),
    ("GET", "/services"),
    ("POST", "/services/create"),
    ("GET", "/services/{id}"),
    ("DELETE", "/services/{id}"),
    ("POST", "/services/{id}/update"),
    ("GET", "/services/{id}/logs"),
    ("GET", "/tasks"),
    ("GET", "/tasks/{id}"),
    ("GET", "/tasks/{id}/logs"),
    ("GET", "/secrets"),
    ("POST", "/secrets/create"),
    ("GET", "/secrets/{id}"),
    ("DELETE", "/secrets/{id}"),
    ("POST", "/secrets/{id}/update"),
    ("GET", "/configs"),
    ("POST", "/configs/create"),
    ("GET", "/configs/{id}"),
    ("DELETE", "/configs/{id}"),
    ("POST", "/configs/{id}/update"),
)

# Routes that are not built: method, path, what the sentence names.
NOT_BUILT = (
    ("POST", "/swarm/init", "swarm"),
    ("POST", "/swarm/join", "swarm"),
    ("POST", "/plugins/pull", "plugins"),
    ("POST", "/plugins/create", "plugins"),
    ("GET", "/plugins/privileges", "plugins"),
    ("POST", "/session", "BuildKit sessions"),
    ("POST", "/grpc", "BuildKit's gRPC"),
    ("POST", "/build/cancel", "cancelling builds by id: close the connection of the build instead"),
    ("POST", "/containers/{id}/checkpoints", "checkpoints"),
    ("GET", "/containers/{id}/checkpoints", "checkpoints"),
)

PLUGIN_ACTS = (
    ("GET", "/plugins/{name+}/json"),
    ("DELETE", "/plugins/{name+}"),
    ("POST", "/plugins/{name+}/enable"),
    ("POST", "/plugins/{name+}/disable"),
    ("POST", "/plugins/{name+}/push"),
    ("POST", "/plugins/{name+}/set"),
    ("POST", "/plugins/{name+}/upgrade"),
)


class AbsentRoutes:
    def routes(self) -> Iterator[Route]:
        for method, pattern in SWARM:
            yield Route(method, pattern, self.not_a_manager, True)
        for method, pattern, what in NOT_BUILT:
            yield Route(method, pattern, _refusal(what), True)
        yield get("/plugins", self.no_plugins)
        yield post("/swarm/update", self.update_swarm)
        yield post("/swarm/leave", self.not_in_a_swarm)
        yield put("/volumes/{name}", self.no_cluster_volume)
        for method, pattern in PLUGIN_ACTS:
            yield Route(method, pattern, self.no_such_plugin, True)

    async def not_a_manager(self, call: Call) -> web.Response:
        raise Unavailable(NOT_A_MANAGER)

    async def update_swarm(self, call: Call) -> web.Response:
        version = call.text("version")
        if not (version.isascii() and version.isdigit()):
            raise InvalidParameter(
                f"invalid swarm version '{version}': strconv.ParseUint: parsing \"{version}\": invalid syntax"
            )
        raise Unavailable(NOT_A_MANAGER)

    async def not_in_a_swarm(self, call: Call) -> web.Response:
        raise Unavailable("This node is not part of a swarm")

    async def no_cluster_volume(self, call: Call) -> web.Response:
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def no_plugins(self, call: Call) -> web.Response:
        return json([])

    async def no_such_plugin(self, call: Call) -> web.Response:
        raise NotFound(f'plugin "{call["name"]}" not found')


def _refusal(what: str) -> Handler:
    async def refuse(call: Call) -> web.Response:
        raise NotImplementedHere(f"skiff does not do {what} yet")

    return refuse
