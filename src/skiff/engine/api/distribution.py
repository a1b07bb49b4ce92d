"""/v2/: the local store as a registry, whose clients are docker, skopeo and other engines of ours.

On the API's socket it stands below /skiff; a listener of its own (serving.py) has it at the root.
Errors have the specification's shape. OCI distribution-spec 1.1, § API.
"""

import errno
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from skiff.engine.api import faults, streaming
from skiff.engine.api.app import Handler, Route, delete, get, head, post, put
from skiff.engine.api.call import Call
from skiff.engine.images.hosting import Hosting, page, repository, sha256
from skiff.engine.images.uploads import OutOfOrder, Refusal
from skiff.errors import InvalidParameter, SkiffError
from skiff.oci import manifest as manifests
from skiff.oci.manifest import Index

log = logging.getLogger(__name__)

MOST_LISTED: Final = 1000  # tags or repositories of one page
VERSION: Final = ("Docker-Distribution-Api-Version", "registry/2.0")
BINARY: Final = "application/octet-stream"
STATUS: Final = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DENIED": 403,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 413,
    "TAG_INVALID": 400,
    "TOOMANYREQUESTS": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED": 405,
}
_CHUNK = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/.*)?")


class DistributionRoutes:
    """prefix: what stands before /v2."""

    prefix = "/skiff"

    def __init__(self, hosting: Hosting, prefix: str = "/skiff") -> None:
        self.hosting = hosting
        self.prefix = prefix

    def routes(self) -> Iterator[Route]:
        root = f"{self.prefix}/v2"
        yield get(f"{root}/", _told(self.base))
        yield get(f"{root}/_catalog", _told(self.catalog))
        name = root + "/{name+}"
        yield get(f"{name}/tags/list", _told(self.tags))
        yield get(name + "/referrers/{digest}", _told(self.referrers))
        for method in (get, head):
            yield method(name + "/manifests/{identifier}", _told(self.manifest))
            yield method(name + "/blobs/{digest}", _told(self.blob))
        yield put(name + "/manifests/{identifier}", _told(self.put_manifest))
        yield delete(name + "/manifests/{identifier}", _told(self.delete_manifest))
        yield delete(name + "/blobs/{digest}", _told(self.delete_blob))
        yield post(f"{name}/blobs/uploads/", _told(self.begin))
        session = name + "/blobs/uploads/{id}"
        yield get(session, _told(self.held))
        yield Route("PATCH", session, _told(self.append), False)
        yield put(session, _told(self.finish))
        yield delete(session, _told(self.cancel))

    async def base(self, call: Call) -> web.Response:
        return _json({})

    async def catalog(self, call: Call) -> web.Response:
        found = self.hosting.repositories()
        return self._page(call, found, "/_catalog", lambda items: {"repositories": items})

    async def tags(self, call: Call) -> web.Response:
        name = call["name"]
        found = self.hosting.tags(name)
        return self._page(call, found, f"/{quote(name)}/tags/list", lambda tags: {"name": name, "tags": tags})

    async def manifest(self, call: Call) -> web.Response:
        found = await self.hosting.manifest(call["name"], call["identifier"])
        headers = {"Docker-Content-Digest": found.digest, "ETag": f'"{found.digest}"'}
        if f'"{found.digest}"' in call.request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.data, content_type=found.media_type, headers=headers)

    async def blob(self, call: Call) -> web.StreamResponse:
        if call.request.method == "HEAD":
            self.hosting.mount(call["name"], call["digest"])
        where, _ = self.hosting.blob(call["name"], call["digest"])
        headers = {"Docker-Content-Digest": call["digest"], "Content-Type": BINARY}
        return web.FileResponse(where, headers=headers)

    async def referrers(self, call: Call) -> web.Response:
        found = self.hosting.referrers(call["name"], call["digest"])
        wanted = call.text("artifactType")
        headers = {}
        if wanted:
            found = [one for one in found if one.artifact_type == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        by_digest = {str(one.digest): one for one in found}
        digests, more = page(list(by_digest), call.text("last"), MOST_LISTED)
        if more:
            query = urlencode({"last": digests[-1], **({"artifactType": wanted} if wanted else {})})
            where = f"/{quote(call['name'])}/referrers/{call['digest']}"
            headers["Link"] = f'<{self.prefix}/v2{where}?{query}>; rel="next"'
        index = Index(
            schema_version=2,
            media_type=manifests.OCI_INDEX,
            manifests=tuple(by_digest[one] for one in digests),
        )
        return web.Response(
            body=msgspec.json.encode(index), content_type=manifests.OCI_INDEX, headers=headers
        )

    async def put_manifest(self, call: Call) -> web.Response:
        data = b""
        async for chunk in streaming.body(call.request):
            data += chunk
            if len(data) > manifests.LARGEST:
                raise Refusal("SIZE_INVALID", f"the manifest is longer than {manifests.LARGEST} bytes")
        name = call["name"]
        kind = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
        digest, subject = await self.hosting.put(name, call["identifier"], data, kind)
        headers = {"Location": self._url(name, f"manifests/{digest}"), "Docker-Content-Digest": digest}
        if subject:
            headers["OCI-Subject"] = subject
        return web.Response(status=201, headers=headers)

    async def delete_manifest(self, call: Call) -> web.Response:
        await self.hosting.delete(call["name"], call["identifier"])
        return web.Response(status=202)

    async def delete_blob(self, call: Call) -> web.Response:
        self.hosting.delete_blob(call["name"], call["digest"])
        return web.Response(status=202)

    async def begin(self, call: Call) -> web.Response:
        """A session; or the blob at once, when it is here already or comes in this very request."""
        name, digest = call["name"], call.text("digest")
        if call.text("mount") and self.hosting.mount(name, call.text("mount")):
            return self._stored(name, call.text("mount"))
        repository(name)
        id = self.hosting.uploads.begin(name)
        if digest:
            await self.hosting.uploads.append(name, id, streaming.body(call.request))
            return await self._finished(name, id, digest)
        return self._session(202, name, id, 0)

    async def held(self, call: Call) -> web.Response:
        size = await self.hosting.uploads.held(call["name"], call["id"])
        return self._session(204, call["name"], call["id"], size)

    async def append(self, call: Call) -> web.Response:
        name, id = call["name"], call["id"]
        size = await self.hosting.uploads.append(name, id, streaming.body(call.request), _start(call))
        return self._session(202, name, id, size)

    async def finish(self, call: Call) -> web.Response:
        name, id = call["name"], call["id"]
        await self.hosting.uploads.held(name, id)
        if not call.text("digest"):
            raise Refusal("DIGEST_INVALID", "the digest of the blob is missing")
        sha256(call.text("digest"))
        await self.hosting.uploads.append(name, id, streaming.body(call.request), _start(call))
        return await self._finished(name, id, call.text("digest"))

    async def cancel(self, call: Call) -> web.Response:
        await self.hosting.uploads.cancel(call["name"], call["id"])
        return web.Response(status=204)

    # -- inside

    async def _finished(self, name: str, id: str, digest: str) -> web.Response:
        await self.hosting.uploads.finish(name, id, sha256(digest))
        return self._stored(name, digest)

    def _stored(self, name: str, digest: str) -> web.Response:
        where = self._url(name, f"blobs/{digest}")
        return web.Response(status=201, headers={"Location": where, "Docker-Content-Digest": digest})

    def _session(self, status: int, name: str, id: str, held: int) -> web.Response:
        headers = {
            "Location": self._url(name, f"blobs/uploads/{id}"),
            "Docker-Upload-UUID": id,
            "Range": f"0-{max(held - 1, 0)}",
        }
        return web.Response(status=status, headers=headers)

    def _page(
        self, call: Call, items: list[str], path: str, shape: Callable[[list[str]], dict[str, object]]
    ) -> web.Response:
        """n: how many; last: those after it. The next page is told in Link, as RFC 5988 has it."""
        try:
            most = call.number("n")
        except InvalidParameter as error:
            raise Refusal("PAGINATION_NUMBER_INVALID", str(error)) from error
        if most is not None and most < 0:
            raise Refusal("PAGINATION_NUMBER_INVALID", f"invalid number of results requested: {most}")
        most = min(MOST_LISTED, most) if most is not None else MOST_LISTED
        shown, more = page(items, call.text("last"), most)
        headers = {}
        if more:
            query = urlencode({"last": shown[-1], "n": most})
            headers["Link"] = f'<{self.prefix}/v2{path}?{query}>; rel="next"'
        return _json(shape(list(shown)), headers)

    def _url(self, name: str, rest: str) -> str:
        return f"{self.prefix}/v2/{quote(name)}/{rest}"


def refused(error: Exception) -> web.Response:
    """The reply that an error stands for."""
    if isinstance(error, OutOfOrder):
        return web.Response(status=416, headers={"Range": f"0-{max(error.held - 1, 0)}"})
    if isinstance(error, Refusal):
        return problem(STATUS.get(error.code, 400), error.code, str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        log.error("a registry's client was refused: %s", error)
        return problem(507, "UNKNOWN", f"the registry's disk is full: {error.strerror}")
    status = faults.status_of(error)
    if status == 500:
        log.error("request failed: %s", error, exc_info=None if isinstance(error, SkiffError) else error)
    return problem(status, "UNKNOWN", faults.sentence(error))


def problem(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error as the specification shapes it."""
    body = {"errors": [{"code": code, "message": message, "detail": None}]}
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers
    )


def _told(handler: Callable[[Call], Awaitable[web.StreamResponse]]) -> Handler:
    async def told(call: Call) -> web.StreamResponse:
        try:
            response = await handler(call)
        except ConnectionError:  # the client has gone: what came is kept, and there is nobody to answer
            raise
        except Exception as error:
            response = refused(error)
        response.headers.setdefault(*VERSION)
        return response

    return told


def _json(value: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", headers=headers)


def _start(call: Call) -> int | None:
    """Where the chunk begins, when it says so. Refusal."""
    text = call.request.headers.get("Content-Range", "")
    if not text:
        return None
    match = _CHUNK.fullmatch(text.strip())
    if match is None or int(match[1]) > int(match[2]):
        raise Refusal("BLOB_UPLOAD_INVALID", f"invalid Content-Range {text!r}")
    return int(match[1])
