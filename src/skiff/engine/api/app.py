"""The door: one table of routes, and the way of a request through it.

    path ── strip /v1.NN ──► negotiate ──► table ──► handler(Call) ──► reply with the standard headers

It keeps no state and decides nothing. aiohttp parses HTTP; the table is ours, because image names hold
slashes and every path exists with and without a version.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from aiohttp import web

from skiff.engine.api import faults, hijack, versions
from skiff.engine.api.call import Call, encode
from skiff.engine.api.headers import STANDARD
from skiff.errors import NotFound, NotImplementedHere

log = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Recorded = Callable[[str, str], AbstractContextManager[None]]
TRACE = "X-Skiff-Trace"
COMMAND_LINE = "skiff-cli"  # the User-Agent of our own


class Route(NamedTuple):
    """`{name}` in the pattern is one path segment, `{name+}` one or more (image names).

    cancel: end the handler when the client goes away. Default: reads yes, acts no — an act that has begun
    is brought to its end.
    """

    method: str
    pattern: str
    handler: Handler
    cancel: bool


def get(pattern: str, handler: Handler) -> Route:
    return Route("GET", pattern, handler, True)


def head(pattern: str, handler: Handler) -> Route:
    return Route("HEAD", pattern, handler, True)


def post(pattern: str, handler: Handler, *, cancel: bool = False) -> Route:
    return Route("POST", pattern, handler, cancel)


def put(pattern: str, handler: Handler) -> Route:
    return Route("PUT", pattern, handler, False)


def delete(pattern: str, handler: Handler) -> Route:
    return Route("DELETE", pattern, handler, False)


class Routes(Protocol):
    """What each file of this folder offers."""

    def routes(self) -> Iterator[Route]: ...


class Table:
    """Routes by method and first path segment; paths without variables are looked up directly."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.fixed: dict[tuple[str, str], Route] = {}
        self.variable: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            if "{" not in route.pattern:
                self.fixed[route.method, route.pattern] = route
            else:
                key = (route.method, route.pattern.split("/", 2)[1])
                self.variable.setdefault(key, []).append((_compile(route.pattern), route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route of a path, and its variables. NotFound, as Docker says it."""
        route = self.fixed.get((method, path))
        if route is not None:
            return route, {}
        for pattern, route in self.variable.get((method, path.split("/", 2)[1]), ()):
            match = pattern.fullmatch(path)
            if match:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        raise NotFound("page not found")

    def __iter__(self) -> Iterator[Route]:
        yield from self.fixed.values()
        for routes in self.variable.values():
            for _, route in routes:
                yield route


def _unrecorded(name: str, title: str) -> AbstractContextManager[None]:
    raise NotImplementedHere("nothing is recorded here")


class App:
    """Answers requests. `handle` is what aiohttp's low-level server calls.

    recorded: around a request that asks for it by its header X-Skiff-Trace.
    """

    def __init__(self, rooms: Iterable[Routes], recorded: Recorded = _unrecorded) -> None:
        self.table = Table(route for room in rooms for route in room.routes())
        self.recorded = recorded
        self.command_line_called: Callable[[], None] = lambda: None
        self.acts: set[asyncio.Task[web.StreamResponse]] = set()

    def server(self) -> hijack.Server:
        """A protocol factory for listeners. Long header lines: registry credentials travel in them."""
        return hijack.Server(
            self.handle,
            handler_cancellation=True,
            access_log=None,
            max_line_size=1 << 20,
            max_field_size=1 << 20,
            read_bufsize=1 << 18,
            tcp_keepalive=True,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("User-Agent") == COMMAND_LINE:
            self.command_line_called()
        try:
            response = await self._answer(request)
        except Exception as error:
            left = request.transport is None or request.transport.is_closing()
            if left and isinstance(error, ConnectionResetError):
                raise asyncio.CancelledError from error  # the client has gone: there is nobody to answer
            response = faults.reply(error)
        if not response.prepared:
            response.headers.update(STANDARD)
            hijack.release(request)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, asked = versions.split(request.rel_url.raw_path)
        route, variables = self.table.find(request.method, path)
        call = Call(request, versions.negotiate(asked), variables)
        trace = request.headers.get(TRACE)
        if trace is None:
            return await self._handled(route, call)
        with self.recorded(trace, f"{request.method} {path}"):
            return await self._handled(route, call)

    async def _handled(self, route: Route, call: Call) -> web.StreamResponse:
        if route.cancel:
            return await route.handler(call)
        act = asyncio.ensure_future(route.handler(call))
        self.acts.add(act)
        act.add_done_callback(self._ended)
        return await asyncio.shield(act)

    def _ended(self, act: asyncio.Task[web.StreamResponse]) -> None:
        self.acts.discard(act)
        if not act.cancelled():
            # The client may be gone; the failure is then ours to have seen. `handle` logs the others.
            act.exception()

    async def finish(self) -> None:
        """Wait for the acts that have begun."""
        if self.acts:
            await asyncio.wait(self.acts)


def json(value: object, status: int = 200) -> web.Response:
    """A reply of JSON, with Docker's trailing newline."""
    return web.Response(body=encode(value) + b"\n", status=status, content_type="application/json")


def empty(status: int = 204) -> web.Response:
    return web.Response(status=status)


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(\+?)\}", pattern)
    text = re.escape(parts[0])
    for name, many, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.+' if many else '[^/]+'})" + re.escape(rest)
    return re.compile(text)
