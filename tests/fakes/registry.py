"""A registry in this process, on loopback, that can misbehave: the protocol as far as clients read it."""

import base64
import hashlib
import json
from typing import Any

from aiohttp import web

OCI = "application/vnd.oci.image"


class FakeRegistry:
    """Faults are asked for by setting the attributes; `requests` tells what came in.

    cut: blob → how many bytes each of its next replies ends after. wrong: blobs whose bytes are replaced.
    failures: statuses of the next replies. token: a bearer token to ask for; identity: one that stays.
    basic: `user:password`.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cut: dict[str, list[int]] = {}
        self.wrong: set[str] = set()
        self.failures: list[int] = []
        self.token = ""
        self.identity = ""
        self.scope_suffices = True
        self.basic = ""
        self.ranges = True
        self.redirect = ""
        self.page = 100
        self.address = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def put_blob(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def put_manifest(
        self, name: str, tag: str, document: Any, media_type: str = f"{OCI}.manifest.v1+json"
    ) -> str:
        data = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        for identifier in (tag, digest):
            self.manifests[name, identifier] = (media_type, data)
        return digest

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.headers)))
        if request.path == "/token":
            if self.basic and not _is_basic(request, self.basic):
                return _error(401, "UNAUTHORIZED", "incorrect username or password")
            return web.json_response(
                {"token": self.token, "expires_in": 300}
                | ({"refresh_token": self.identity} if "offline_token" in request.query else {})
            )
        if request.path.startswith("/elsewhere/"):
            return web.Response(body=self.blobs[request.path.removeprefix("/elsewhere/")])
        if self.failures:
            status = self.failures.pop(0)
            return _error(status, "TOOMANYREQUESTS" if status == 429 else "UNKNOWN", "not now")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            where = f'Bearer realm="http://{self.address}/token",service="fake",scope="repository:x:pull"'
            return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": where})
        if not self.scope_suffices:
            where = f'Bearer realm="http://{self.address}/token",error="insufficient_scope"'
            return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": where})
        if self.basic and not self.token and not _is_basic(request, self.basic):
            return _error(401, "UNAUTHORIZED", "no", {"WWW-Authenticate": 'Basic realm="fake"'})
        parts = request.path.removeprefix("/v2/").split("/")
        name, kind, last = "/".join(parts[:-2]), parts[-2] if len(parts) > 1 else "", parts[-1]
        match kind:
            case "manifests":
                return self._manifest(name, last)
            case "blobs":
                return await self._blob(request, last)
            case "tags":
                return self._tags(request, name)
        return web.json_response({})

    def _manifest(self, name: str, identifier: str) -> web.Response:
        if (name, identifier) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, data = self.manifests[name, identifier]
        return web.Response(body=data, headers={"Content-Type": media_type})

    async def _blob(self, request: web.Request, digest: str) -> web.StreamResponse:
        if digest not in self.blobs:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.redirect:
            raise web.HTTPTemporaryRedirect(f"http://{self.redirect}/elsewhere/{digest}")
        data = self.blobs[digest]
        if digest in self.wrong:
            data = b"x" * len(data)
        status, start = 200, 0
        if self.ranges and "Range" in request.headers:
            status, start = 206, int(request.headers["Range"].split("=")[1].split("-")[0])
        cuts = self.cut.get(digest)
        response = web.StreamResponse(status=status, headers={"Content-Length": str(len(data) - start)})
        await response.prepare(request)
        if cuts:
            await response.write(data[start : start + cuts.pop(0)])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(data[start:])
        return response

    def _tags(self, request: web.Request, name: str) -> web.Response:
        tags = sorted(tag for repository, tag in self.manifests if repository == name and ":" not in tag)
        last = request.query.get("last", "")
        rest = [tag for tag in tags if tag > last]
        page, headers = rest[: self.page], {}
        if len(rest) > len(page):
            headers["Link"] = f'</v2/{name}/tags/list?last={page[-1]}&n={self.page}>; rel="next"'
        return web.json_response({"name": name, "tags": page}, headers=headers)


def _is_basic(request: web.Request, pair: str) -> bool:
    return request.headers.get("Authorization") == "Basic " + base64.b64encode(pair.encode()).decode()


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"errors": [{"code": code, "message": message, "detail": None}]}
    return web.json_response(body, status=status, headers=headers)
