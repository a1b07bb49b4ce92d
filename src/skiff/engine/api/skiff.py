"""/skiff/…: what Docker's API has no words for: trash and undo, what a prune would take, check, traces.

Under a prefix of its own, so that a request sent to another engine is refused and never half understood.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from skiff.docker import filters
from skiff.docker.filters import Filters
from skiff.engine.api.app import Route, delete, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.system.check import Check
from skiff.engine.system.trace import Traces
from skiff.engine.system.trash import Trash
from skiff.errors import NotFound

Preview = Callable[[Filters], Awaitable[Any]]
"""What a prune with these filters would remove, as its report."""

Previews = Mapping[str, tuple[Sequence[str], Preview]]


class SkiffRoutes:
    """previews: (noun in the path, filters allowed, preview)."""

    def __init__(self, trash: Trash, check: Check, previews: Previews, traces: Traces) -> None:
        self.trash = trash
        self.checked = check
        self.previews = previews
        self.traces = traces

    def routes(self) -> Iterator[Route]:
        yield get("/skiff/trash", self.list)
        yield post("/skiff/trash/undo", self.undo)
        yield post("/skiff/trash/{id}/restore", self.restore)
        yield delete("/skiff/trash", self.empty)
        yield delete("/skiff/trash/{id}", self.empty_one)
        yield get("/skiff/prunable/{noun}", self.prunable)
        yield get("/skiff/check", self.check)
        yield post("/skiff/check", self.mend)
        yield get("/skiff/traces/{name}", self.trace)

    async def list(self, call: Call) -> web.Response:
        return json({"Entries": self.trash.list(), "Usage": self.trash.usage()})

    async def undo(self, call: Call) -> web.Response:
        count = call.number("count", 1)
        return json({"Restored": await self.trash.undo(1 if count is None else count)})

    async def restore(self, call: Call) -> web.Response:
        return json({"Restored": await self.trash.restore(call["id"], call.text("name"))})

    async def empty(self, call: Call) -> web.Response:
        return json(await self.trash.empty())

    async def empty_one(self, call: Call) -> web.Response:
        return json(await self.trash.empty([call["id"]]))

    async def prunable(self, call: Call) -> web.Response:
        if call["noun"] not in self.previews:
            raise NotFound(f"nothing is called {call['noun']}: expected {', '.join(self.previews)}")
        known, preview = self.previews[call["noun"]]
        return json(await preview(filters.parse(call.text("filters"), known)))

    async def trace(self, call: Call) -> web.Response:
        return json(self.traces.take(call["name"]))

    async def check(self, call: Call) -> web.Response:
        return json(await self.checked.look())

    async def mend(self, call: Call) -> web.Response:
        return json(await self.checked.mend())
