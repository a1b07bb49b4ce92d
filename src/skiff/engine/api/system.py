"""/_ping /version /info /events /auth /system/df. Engine API, tag System."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from aiohttp import web

from skiff.docker import event, filters
from skiff.engine.api import streaming, views
from skiff.engine.api.app import Route, get, head, json, post
from skiff.engine.api.call import Call, encode
from skiff.engine.api.headers import PING
from skiff.engine.api.registry_auth import AuthConfig, credentials, domain
from skiff.engine.registry.auth import Credentials
from skiff.engine.system.events import FILTERS, EventBus
from skiff.engine.system.info import Info
from skiff.engine.system.usage import Usage
from skiff.errors import InvalidParameter

Login = Callable[[str, Credentials], Awaitable[str]]
"""Ask a registry whether it accepts the credentials: an identity token or nothing. Unauthorized."""


class SystemRoutes:
    def __init__(self, info: Info, events: EventBus, usage: Usage, login: Login) -> None:
        self.about = info
        self.bus = events
        self.usage = usage
        self.login = login
        self.encoded_version = encode(info.version) + b"\n"

    def routes(self) -> Iterator[Route]:
        yield get("/_ping", self.ping)
        yield head("/_ping", self.ping)
        yield get("/version", self.version)
        yield get("/info", self.info)
        yield get("/events", self.events)
        yield get("/system/df", self.df)
        yield post("/auth", self.auth)

    async def ping(self, call: Call) -> web.Response:
        # Docker's own HEAD carries no length of the body that GET would have.
        text = "" if call.request.method == "HEAD" else "OK"
        return web.Response(text=text, headers=PING)

    async def version(self, call: Call) -> web.Response:
        return web.Response(body=self.encoded_version, content_type="application/json")

    async def info(self, call: Call) -> web.Response:
        return json(views.info(self.about.info(), call.version))

    async def df(self, call: Call) -> web.Response:
        usage = await self.usage.measure(call.texts("type", since=(1, 42)))
        return json(views.usage(usage, call.version))

    async def events(self, call: Call) -> web.StreamResponse:
        asked = filters.parse(call.text("filters"), FILTERS)
        now = time.time_ns()
        since, until = call.instant("since", now), call.instant("until", now)
        if since is not None and until is not None and since > until:
            raise InvalidParameter(
                f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})"
            )

        async def lines() -> AsyncIterator[bytes]:
            async for happened in self.bus.subscribe(asked, since_ns=since, until_ns=until):
                yield encode(event.message(happened)) + b"\n"

        response = await streaming.begin(call.request)
        async for line in lines():
            await response.write(line)
        await response.write_eof()
        return response

    async def auth(self, call: Call) -> web.Response:
        config = await call.json(AuthConfig)
        token = await self.login(domain(config.serveraddress), credentials(config))
        return json({"Status": "Login Succeeded", "IdentityToken": token})
