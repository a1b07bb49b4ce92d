"""/build. Engine API, ImageBuild and BuildPrune.

Beside Docker's parameters there are skiff's own:

    nocachefilter   repeated
    contexts        JSON, name → image or URL
    trees           JSON, name → token of /skiff/build/contexts, "" the build's own context: the body is then
                    no archive but JSON, {"Dockerfile": …, "Ignore": …}, each in base64
    cachefrom       JSON, names of images as in Docker's, or CacheSource
    cacheto         JSON, as `outputs`
    ssh             JSON, ids of the client's ssh agents
    allow           JSON, entitlements
    check           flag: look at the Dockerfile and build nothing
    why, verify     flags

What the client is to take or give meanwhile it is asked for by events (builds/handing.py)

and the header X-Skiff-Build-Secrets: base64url of JSON, id → base64 of the value.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from skiff.docker import filters
from skiff.docker.container import Ulimit
from skiff.engine.api import hijack, streaming
from skiff.engine.api.app import Route, delete, get, json, post, put
from skiff.engine.api.call import Call, encode
from skiff.engine.api.faults import sentence
from skiff.engine.api.registry_auth import AuthConfig, credentials, domain
from skiff.engine.builds.cache import PRUNE_FILTERS
from skiff.engine.builds.kept import LARGEST_MANIFEST
from skiff.engine.builds.request import BuildRequest, CacheSource, Limits, Output
from skiff.engine.builds.running import Failed
from skiff.engine.builds.service import Builds
from skiff.engine.registry.auth import Credentials
from skiff.errors import InvalidParameter, NotFound, NotImplementedHere, SkiffError
from skiff.oci import platform

SECRETS = "X-Skiff-Build-Secrets"
_SHOWN = {"buildargs": "build args", "ulimits": "ulimit settings", "cachefrom": "cache-from"}  # by Docker
T = TypeVar("T")
log = logging.getLogger(__name__)


class BuildRoutes:
    """host: what is built for when the client names no platform."""

    def __init__(self, builds: Builds, host: platform.Platform) -> None:
        self.builds = builds
        self.host = host

    def routes(self) -> Iterator[Route]:
        yield post("/build", self.build, cancel=True)
        yield post("/build/prune", self.prune)
        yield get("/skiff/build/prunable", self.prunable)
        yield post("/skiff/build/contexts", self.offer)
        yield put("/skiff/build/contexts/{token}", self.fill)
        yield post("/skiff/build/contexts/{token}/attach", self.attach)
        yield get("/skiff/build/exports/{token}", self.export)
        yield post("/skiff/build/agents/{token}/attach", self.agent)
        yield get("/skiff/build/caches", self.caches)
        yield delete("/skiff/build/caches", self.remove_cache)
        yield get("/skiff/build/caches/content", self.cache_archive)
        yield put("/skiff/build/caches/content", self.fill_cache)

    async def build(self, call: Call) -> web.StreamResponse:
        work = self.builds.build(self.asked(call), streaming.body(call.request))
        try:
            return await streaming.lines(call.request, _told(work))
        finally:
            await work.aclose()  # type: ignore[attr-defined]

    def asked(self, call: Call) -> BuildRequest:
        """InvalidParameter, NotImplementedHere."""
        if call.text("version") == "2":
            raise NotImplementedHere("skiff does not speak BuildKit's protocol yet: build with version=1")
        if call.text("version") not in ("", "1"):
            raise InvalidParameter(f'invalid version "{call.text("version")}"')
        if any(_decoded(call, "securityopt", list[str], [])):
            raise NotImplementedHere("skiff does not do security options of builds")
        if call.text("isolation", "default").lower() not in ("", "default"):
            raise InvalidParameter(f'unsupported isolation: "{call.text("isolation")}"')
        wanted = call.text("platform", since=(1, 32))
        return BuildRequest(
            dockerfile=call.text("dockerfile") or "Dockerfile",
            remote=call.text("remote"),
            tags=tuple(filter(None, call.texts("t"))),
            build_args=_decoded(call, "buildargs", dict[str, str | None], {}),
            labels=_decoded(call, "labels", dict[str, str], {}),
            target=call.text("target"),
            platform=platform.parse(wanted, self.host) if wanted else None,
            network=call.text("networkmode") or "default",
            extra_hosts=tuple(host for text in call.texts("extrahosts") for host in text.split(",") if host),
            ignore_cache=() if call.flag("nocache") else tuple(call.texts("nocachefilter")) or None,
            cache_from=_cache_sources(call),
            cache_to=tuple(_decoded(call, "cacheto", list[Output], [])),
            pull=call.flag("pull"),
            quiet=call.flag("q"),
            remove=call.flag("rm", True) or call.flag("forcerm"),
            force_remove=call.flag("forcerm"),
            squash=call.flag("squash"),
            limits=_limits(call),
            secrets=_secrets(call.request.headers.get(SECRETS, "")),
            credentials=_registries(call.request.headers.get("X-Registry-Config", "")),
            contexts=_decoded(call, "contexts", dict[str, str], {}),
            trees=_decoded(call, "trees", dict[str, str], {}),
            outputs=tuple(_decoded(call, "outputs", list[Output], [])),
            agents=tuple(_decoded(call, "ssh", list[str], [])),
            allow=frozenset(_decoded(call, "allow", list[str], [])),
            check=call.flag("check"),
            why=call.flag("why"),
            verify=call.flag("verify"),
        )

    async def offer(self, call: Call) -> web.Response:
        """Body: a manifest (builds/kept.py). What is missing of it is sent to the token then."""
        manifest = await streaming.whole(call.request, LARGEST_MANIFEST, "the build context's manifest")
        token, missing = await asyncio.to_thread(self.builds.trees.offer, call.text("key"), manifest)
        return json({"Token": token, "Missing": missing})

    async def fill(self, call: Call) -> web.Response:
        async with streaming.upload(call.request) as body:
            await self.builds.trees.fill(call["token"], body)
        return web.Response(status=204)

    async def attach(self, call: Call) -> web.StreamResponse:
        """Instead of what `fill` takes: the directory itself, as builds/gathering.py has it."""
        trees, token = self.builds.trees, call["token"]
        if not trees.expects(token):
            raise NotFound(f"no such build context: {token}")
        with (await hijack.take(call.request, hijack.RAW)).stream as client:
            answer: dict[str, str] = {}
            try:
                await trees.attach(token, client)
            except (SkiffError, OSError) as error:
                answer = {"message": str(error)}
            with suppress(OSError):  # it has left
                client.send(encode(answer))
        return hijack.Hijacked()

    async def export(self, call: Call) -> web.StreamResponse:
        """What a build that waits hands over: a tar."""
        chunks = self.builds.handing.taken(call["token"])
        return await streaming.lines(call.request, chunks, "application/x-tar")

    async def agent(self, call: Call) -> web.StreamResponse:
        """A connection to an ssh agent of the client's, which a build has asked for."""
        if not self.builds.handing.expects_agent(call["token"]):
            raise NotFound(f"no build waits for agent {call['token']}")
        taken = await hijack.take(call.request, hijack.RAW)
        self.builds.handing.connected(call["token"], taken.stream)
        return hijack.Hijacked()

    async def caches(self, call: Call) -> web.Response:
        """Cache mounts."""
        return json(self.builds.caches.list())

    async def remove_cache(self, call: Call) -> web.Response:
        freed = await asyncio.to_thread(self.builds.caches.remove, call.text("id"))
        return json({"SpaceReclaimed": freed})

    async def cache_archive(self, call: Call) -> web.StreamResponse:
        chunks = self.builds.caches.archive(call.text("id"))
        return await streaming.lines(call.request, chunks, "application/x-tar")

    async def fill_cache(self, call: Call) -> web.Response:
        await self.builds.caches.fill(call.text("id"), streaming.body(call.request))
        return web.Response(status=204)

    async def prune(self, call: Call) -> web.Response:
        return json(await self._pruned(call, dry_run=False))

    async def prunable(self, call: Call) -> web.Response:
        """What a prune with the same parameters would take."""
        return json(await self._pruned(call, dry_run=True))

    async def _pruned(self, call: Call, *, dry_run: bool) -> dict[str, Any]:
        recent = call.version >= (1, 48)
        names = ("keep-storage", "reserved-space", "max-used-space") if recent else ("keep-storage",)
        keep = [_bytes(call, name) for name in names]
        if recent and _bytes(call, "min-free-space"):
            raise NotImplementedHere("skiff does not prune builds by free space")
        return await self.builds.prune(
            filters.parse(call.text("filters"), PRUNE_FILTERS),
            everything=call.flag("all"),
            keep_bytes=max(keep),
            dry_run=dry_run,
        )


async def _told(work: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    """Each event as a line. A failure after the first one is the last line, as Docker has it."""
    begun = False
    try:
        async for events in work:
            begun = True
            yield b"".join([encode(event) + b"\r\n" for event in events])
    except Exception as error:
        if not begun:
            raise
        if not isinstance(error, SkiffError):
            log.exception("a build failed")
        text = sentence(error)
        told: dict[str, Any] = {"message": text}
        if isinstance(error, Failed):
            told = {"code": error.code, **told}
        if detail := getattr(error, "detail", ""):
            told["detail"] = detail
        yield encode({"errorDetail": told, "error": text}) + b"\r\n"


def _bytes(call: Call, name: str) -> int:
    """A query parameter as a size; 0 when it is absent. InvalidParameter."""
    try:
        return call.number(name, 0) or 0
    except InvalidParameter as error:
        raise InvalidParameter(
            f"{name} is in bytes and expects an integer, got {call.text(name)}: {error}"
        ) from None


def _limits(call: Call) -> Limits:
    return Limits(
        memory=call.number("memory", 0) or 0,
        memory_swap=call.number("memswap", 0) or 0,
        cpu_shares=call.number("cpushares", 0) or 0,
        cpu_period=call.number("cpuperiod", 0) or 0,
        cpu_quota=call.number("cpuquota", 0) or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        shm_size=call.number("shmsize", 0) or 0,
        ulimits=tuple(_decoded(call, "ulimits", list[Ulimit], [])),
        cgroup_parent=call.text("cgroupparent"),
    )


def _decoded(call: Call, name: str, kind: type[T], default: T) -> T:
    """A query parameter that is JSON; absent, empty and null give the default. InvalidParameter."""
    text = call.text(name)
    if text in ("", "null"):
        return default
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        shown = _SHOWN.get(name, name)
        raise InvalidParameter(f"error reading {shown}: {error}") from error


def _cache_sources(call: Call) -> tuple[CacheSource, ...]:
    """Docker's are names of images; skiff's command line says what kind each is."""
    found = _decoded(call, "cachefrom", list[str | CacheSource], [])
    return tuple(CacheSource(ref=one) if isinstance(one, str) else one for one in found)


def _secrets(header: str) -> dict[str, bytes]:
    if not header:
        return {}
    try:
        raw = base64.b64decode(header, altchars=b"-_", validate=True)
        found = msgspec.json.decode(raw, type=dict[str, bytes])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise InvalidParameter(f"invalid {SECRETS} header: {error}") from error
    return found


def _registries(header: str) -> dict[str, Credentials]:
    """X-Registry-Config: base64url of JSON, server → AuthConfig."""
    if not header:
        return {}
    compact = header.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        raw = base64.b64decode(compact + "=" * (-len(compact) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(raw, type=dict[str, AuthConfig] | None)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise InvalidParameter(f"invalid X-Registry-Config header: {error}") from error
    return {domain(server): credentials(config) for server, config in (found or {}).items()}
