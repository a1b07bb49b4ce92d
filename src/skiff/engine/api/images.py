"""/images. Engine API, tag Image."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from aiohttp import web

from skiff.docker import filters, wire
from skiff.engine.api import streaming, views
from skiff.engine.api.app import Route, delete, empty, get, json, post
from skiff.engine.api.call import Call
from skiff.engine.api.registry_auth import from_header
from skiff.engine.images import download, progress
from skiff.engine.images.packing import Form
from skiff.engine.images.progress import Progress
from skiff.engine.images.service import LIST_FILTERS, PRUNE_FILTERS, Images
from skiff.engine.storage.uploads import Body
from skiff.errors import InvalidParameter, SkiffError
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
        yield post("/images/{name+}/push", self.push, cancel=True)
        yield post("/images/{name+}/tag", self.tag)
        yield delete("/images/{name+}", self.remove)

    async def list(self, call: Call) -> web.Response:
        asked = filters.parse(call.text("filters"), LIST_FILTERS)
        if call.version < (1, 41) and call.text("filter"):
            asked = filters.Filters({**asked.fields, "reference": (call.text("filter"),)})
        # digests asks for what is always told; manifests for what no image here has (see inspect).
        found = await self.images.list(
            asked, all=call.flag("all"), shared_size=call.flag("shared-size", since=(1, 42))
        )
        return json([views.image_summary(image, call.version) for image in found])

    async def inspect(self, call: Call) -> web.Response:
        # Each image is for one platform here, so there are no manifests to list.
        wanted = call.text("platform", since=(1, 49))
        if wanted and call.flag("manifests", since=(1, 48)):
            raise InvalidParameter("conflicting options: manifests and platform options cannot both be set")
        await self.images.require(call["name"], _described(wanted))
        agent = call.request.headers.get("User-Agent", "")
        return json(views.image(await self.images.inspect(call["name"]), call.version, agent))

    async def history(self, call: Call) -> web.Response:
        await self.images.require(call["name"], _described(call.text("platform", since=(1, 48))))
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
            async with streaming.upload(call.request) as archive:
                return await self._import(call, archive)
        elif url := call.text("fromSrc"):
            async with contextlib.aclosing(download.pieces(url)) as downloaded:
                return await self._import(call, downloaded)
        else:
            raise InvalidParameter("expected fromImage, or fromSrc with a URL or -")
        return await streaming.lines(call.request, _told(work))

    async def _import(self, call: Call, archive: Body) -> web.StreamResponse:
        work = self.images.import_tar(
            archive,
            reference=call.text("repo"),
            tag=call.text("tag"),
            message=call.text("message"),
            changes=call.texts("changes"),
            platform=self._platform(call),
        )
        return await streaming.lines(call.request, _told(work))

    async def load(self, call: Call) -> web.StreamResponse:
        async with streaming.upload(call.request) as archive:
            wanted = _described(call.text("platform", since=(1, 48)))
            work = self.images.load(archive, quiet=call.flag("quiet"), platform=wanted)
            # as Docker: what is no archive is told in the stream, under status 200
            return await streaming.lines(call.request, _told(work, begun=True))

    async def tag(self, call: Call) -> web.Response:
        await self.images.tag(call["name"], call.text("repo"), call.text("tag"))
        return empty(201)

    async def remove(self, call: Call) -> web.Response:
        for text in call.texts("platforms", since=(1, 50)):
            await self.images.require(call["name"], _described(text))
        done = await self.images.remove(
            call["name"], force=call.flag("force"), prune_parents=not call.flag("noprune")
        )
        return json(done)

    async def prune(self, call: Call) -> web.Response:
        return json(await self.images.prune(filters.parse(call.text("filters"), PRUNE_FILTERS)))

    async def save(self, call: Call) -> web.StreamResponse:
        names = [call["name"]] if "name" in call.path else call.texts("names")
        if not names:
            raise InvalidParameter("no image names given")
        archive = self.images.saver.save(names, _described(call.text("platform", since=(1, 48))))
        return await streaming.lines(call.request, archive, "application/x-tar")

    async def push(self, call: Call) -> web.StreamResponse:
        work = self.images.push(
            call["name"],
            tag=call.text("tag"),
            platform=_described(call.text("platform", since=(1, 46))),
            credentials=from_header(call.request.headers.get("X-Registry-Auth", "")),
            form=_form(call.text("compression")),
        )
        return await streaming.lines(call.request, _told(work))

    def _platform(self, call: Call) -> platform.Platform | None:
        """`linux/arm64`; as JSON where newer clients load an image."""
        text = call.text("platform", since=(1, 32))
        if text.startswith("{"):
            return _described(text)
        return platform.parse(text, self.host) if text else None


def _form(text: str) -> Form | None:
    """A compression of layers, ours beyond Docker's API. InvalidParameter."""
    match text:
        case "":
            return None
        case "gzip" | "zstd":
            return text
        case _:
            raise InvalidParameter(f"invalid compression {text!r}: expected gzip or zstd")


def _described(text: str) -> platform.Platform | None:
    """The platform that JSON of an OCI platform describes. InvalidParameter."""
    try:
        return wire.decode(text.encode(), platform.Platform) if text else None
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to parse platform: {error}") from None


async def _told(work: AsyncGenerator[Progress, None], *, begun: bool = False) -> AsyncIterator[bytes]:
    """Each event as a line; a failure after the first one is the last line. Whoever leaves ends the work."""
    async with contextlib.aclosing(work):
        try:
            async for event in work:
                begun = True
                yield progress.line(event)
        except SkiffError as error:
            if not begun:
                raise
            yield progress.line(progress.failure(str(error)))
