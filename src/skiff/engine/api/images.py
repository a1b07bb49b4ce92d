"""/images. Engine API, tag Image."""

from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from skiff.docker import filters
from skiff.engine.api import streaming, views
from skiff.engine.api.app import Route, delete, empty, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.api.registry_auth import from_header
from skiff.engine.images import progress
from skiff.engine.images.progress import Progress
from skiff.engine.images.service import LIST_FILTERS, PRUNE_FILTERS, Images
from skiff.errors import NotImplementedHere, SkiffError
from skiff.oci import platform


class ImageRoutes:
    """host: what an image must run on when the client names no platform."""

    def __init__(self, images: Images, host: platform.Platform) -> None:
        self.images = images
        self.host = host

    def routes(self) -> Iterator[Route]:
        yield get("/images/json", self.list)
        yield post("/images/create", self.create, cancel=True)
        yield post("/images/load", self.load, cancel=True)
        yield post("/images/prune", self.prune)
        yield get("/images/get", self.save)
        yield get("/images/{name+}/get", self.save)
        yield get("/images/{name+}/json", self.inspect)
        yield get("/images/{name+}/history", self.history)
        yield post("/images/{name+}/push", self.push)
        yield post("/images/{name+}/tag", self.tag)
        yield delete("/images/{name+}", self.remove)

    async def list(self, call: Call) -> web.Response:
        found = await self.images.list(
            filters.parse(call.text("filters"), LIST_FILTERS),
            all=call.flag("all"),
            shared_size=call.flag("shared-size"),
        )
        return json([views.image_summary(image, call.version) for image in found])

    async def inspect(self, call: Call) -> web.Response:
        return json(views.image(await self.images.inspect(call["name"]), call.version))

    async def history(self, call: Call) -> web.Response:
        return json(await self.images.history(call["name"]))

    async def create(self, call: Call) -> web.StreamResponse:
        if call.text("fromImage"):
            work = self.images.pull(
                call.text("fromImage"),
                tag=call.text("tag"),
                platform=self._platform(call),
                credentials=from_header(call.request.headers.get("X-Registry-Auth", "")),
            )
        elif call.text("fromSrc") == "-":
            work = self.images.import_tar(
                streaming.body(call.request),
                reference=call.text("repo"),
                tag=call.text("tag"),
                message=call.text("message"),
                changes=call.texts("changes"),
                platform=self._platform(call),
            )
        else:
            raise NotImplementedHere("skiff does not import from a URL: send the archive with fromSrc=-")
        return await streaming.lines(call.request, _told(work))

    async def load(self, call: Call) -> web.StreamResponse:
        work = self.images.load(
            streaming.body(call.request), quiet=call.flag("quiet"), platform=self._platform(call)
        )
        return await streaming.lines(call.request, _told(work))

    async def tag(self, call: Call) -> web.Response:
        await self.images.tag(call["name"], call.text("repo"), call.text("tag"))
        return empty(201)

    async def remove(self, call: Call) -> web.Response:
        done = await self.images.remove(
            call["name"], force=call.flag("force"), prune_parents=not call.flag("noprune")
        )
        return json(done)

    async def prune(self, call: Call) -> web.Response:
        return json(await self.images.prune(filters.parse(call.text("filters"), PRUNE_FILTERS)))

    async def save(self, call: Call) -> web.Response:
        raise NotImplementedHere("skiff does not save images yet")

    async def push(self, call: Call) -> web.Response:
        raise NotImplementedHere("skiff does not push images yet")

    def _platform(self, call: Call) -> platform.Platform | None:
        text = call.text("platform")
        return platform.parse(text, self.host) if text else None


async def _told(work: AsyncIterator[Progress]) -> AsyncIterator[bytes]:
    """Each event as a line; a failure after the first one is the last line."""
    begun = False
    try:
        async for event in work:
            begun = True
            yield progress.line(event)
    except SkiffError as error:
        if not begun:
            raise
        yield progress.line(progress.failure(str(error)))
