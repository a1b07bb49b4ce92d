"""Writing to a registry: blobs that it lacks, then manifests.

    held already? ─► mounted from a repository beside it? ─► uploaded

A small blob goes in one request. A large one is streamed to an upload session; when the connection breaks,
the registry says how far it came and the rest follows. Mirrors are never written to.
OCI distribution-spec 1.1, § Push.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

from skiff.engine.registry.auth import Authorisation
from skiff.engine.registry.hosts import Endpoint
from skiff.engine.registry.replies import ATTEMPTS, delay, prepared, refusal
from skiff.engine.registry.transport import (
    NoAnswer,
    RegistryRequest,
    RegistryResponse,
    RegistryTransport,
    TryAgain,
    joined,
)
from skiff.errors import DigestMismatch, NoCredentials, NotFound, SkiffError, Unauthorized, Unavailable
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor
from skiff.oci.reference import Reference

SMALL = 1 << 20  # bytes up to which a blob goes in one request
PIECE = 1 << 20  # bytes read from disk at once
MOUNTS = 3  # repositories tried before the blob is sent
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_BINARY = "application/octet-stream"

T = TypeVar("T")
Doors = Callable[[Endpoint, Sequence[str]], Authorisation]
"""Who we are at an endpoint, allowed to pull from those repositories as well."""
Sent = Callable[[int], None]
"""Hears how many bytes of the blob have been sent."""


class Target:
    """One repository to write to, as one user. Errors: Denied, Unauthorized, Unavailable."""

    def __init__(
        self,
        reference: Reference,
        endpoints: Sequence[Endpoint],
        doors: Doors,
        transport: RegistryTransport,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._path = reference.path
        self._endpoints = endpoints
        self._doors = doors
        self._transport = transport
        self._pause = pause
        self._endpoint: Endpoint | None = None

    async def find(self) -> None:
        """Choose the endpoint that answers; called once, before anything else."""
        problems: list[SkiffError] = []
        for endpoint in self._endpoints:
            request = prepared(endpoint, f"{endpoint.url}/v2/")
            try:
                async with self._transport.send(request) as response:
                    if response.status not in (200, 401, 403):
                        raise await refusal(response, request)
            except (Unavailable, NotFound) as error:
                problems.append(error)
                continue
            self._endpoint = endpoint
            return
        raise problems[0]

    async def holds(self, digest: Digest) -> bool:
        """Whether the repository has that blob."""

        async def ask() -> bool:
            async with self._send("HEAD", self._url(f"/blobs/{digest}")) as (response, request):
                if response.status not in (200, 404):
                    raise await refusal(response, request)
                return response.status == 200

        return await self._patiently(ask)

    async def mount(self, digest: Digest, sources: Sequence[str]) -> str | None:
        """The first of the repositories (paths) that the blob could be taken over from."""
        for source in sources[:MOUNTS]:
            url = self._url(f"/blobs/uploads/?mount={digest}&from={quote(source)}")
            try:
                async with self._send("POST", url, b"", reads=[source]) as (response, _):
                    status, location = response.status, response.headers.get("Location", "")
                if status == 201:
                    return source
                if status == 202 and location:  # an upload was begun that nobody wants
                    async with self._send("DELETE", joined(url, location)) as (response, _):
                        await response.read(1 << 16)
            except (Unauthorized, Unavailable, NotFound):  # we may not read there: the blob is sent instead
                continue
        return None

    async def upload(self, blob: Descriptor, open_blob: Callable[[], BinaryIO], sent: Sent) -> None:
        """Send the blob. DigestMismatch when the registry got other bytes."""
        failures, furthest, session, offset = 0, 0, "", 0
        while True:
            try:
                if not session:
                    session, offset = await self._begin(), 0
                if blob.size > SMALL and offset < blob.size:
                    session = await self._stream(session, blob, offset, open_blob, sent)
                await self._finish(session, blob, open_blob)
                sent(blob.size)
                return
            except TryAgain as error:
                failures += 1
                if failures >= ATTEMPTS:
                    raise
                await self._pause(delay(failures, error))
                if session:
                    session, offset = await self._progress(session)
                if offset > furthest:  # progress earns new patience
                    furthest, failures = offset, 0

    async def put_manifest(self, identifier: str, data: bytes, media_type: str) -> None:
        """Store a manifest under a tag or digest."""

        async def ask() -> None:
            url = self._url(f"/manifests/{identifier}")
            async with self._send("PUT", url, data, {"Content-Type": media_type}) as (response, request):
                if response.status not in (200, 201, 202):
                    raise await refusal(response, request)

        await self._patiently(ask)

    # -- inside

    async def _begin(self) -> str:
        async with self._send("POST", self._url("/blobs/uploads/"), b"") as (response, request):
            location = response.headers.get("Location", "")
            if response.status != 202 or not location:
                raise await refusal(response, request)
            return joined(response.url, location)

    async def _stream(
        self, session: str, blob: Descriptor, offset: int, open_blob: Callable[[], BinaryIO], sent: Sent
    ) -> str:
        """Everything from offset on in one request; where the session is afterwards."""
        headers = {"Content-Type": _BINARY, "Content-Length": str(blob.size - offset)}
        if offset:
            headers["Content-Range"] = f"{offset}-{blob.size - 1}"
        body = _pieces(open_blob, offset, blob.size, sent)
        async with self._send("PATCH", session, body, headers) as (response, request):
            if response.status not in (201, 202, 204):
                raise await _interrupted(response, request)
            return joined(session, response.headers.get("Location", "") or session)

    async def _finish(self, session: str, blob: Descriptor, open_blob: Callable[[], BinaryIO]) -> None:
        url = f"{session}{'&' if '?' in session else '?'}digest={blob.digest}"
        body = b"" if blob.size > SMALL else await asyncio.to_thread(_whole, open_blob)
        async with self._send("PUT", url, body, {"Content-Type": _BINARY}) as (response, request):
            if response.status not in (201, 204):
                raise await _interrupted(response, request)

    async def _progress(self, session: str) -> tuple[str, int]:
        """After a break: the session and how many bytes it holds; ("", 0) to begin again."""
        try:
            async with self._send("GET", session) as (response, _):
                held = _RANGE.fullmatch(response.headers.get("Range", ""))
                if response.status != 204 or held is None or held[1] == "0":
                    return "", 0
                return joined(session, response.headers.get("Location", "") or session), int(held[1]) + 1
        except (Unavailable, NotFound):
            return "", 0

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: str,
        body: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        reads: Sequence[str] = (),
    ) -> AsyncIterator[tuple[RegistryResponse, RegistryRequest]]:
        """A failing connection is TryAgain. Sessions may lie elsewhere: no credentials go there."""
        assert self._endpoint is not None, "find() comes first"
        request = prepared(self._endpoint, url, headers, method=method, body=body)
        is_registry = urlsplit(url)[:2] == urlsplit(self._endpoint.url)[:2]
        door = self._doors(self._endpoint, reads) if is_registry else self._transport
        try:
            async with door.send(request) as response:
                yield response, request
        except TryAgain:
            raise
        except NoCredentials as error:
            raise NoCredentials("no basic auth credentials") from error  # the whole of what Docker says here
        except Unavailable as error:
            if isinstance(error, NoAnswer) or isinstance(error.__cause__, OSError | TimeoutError):
                raise TryAgain(str(error)) from error
            raise

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        for attempt in range(1, ATTEMPTS):
            try:
                return await ask()
            except TryAgain as error:
                await self._pause(delay(attempt, error))
        return await ask()

    def _url(self, path: str) -> str:
        assert self._endpoint is not None, "find() comes first"
        return f"{self._endpoint.url}/v2/{self._path}{path}"


async def _interrupted(response: RegistryResponse, request: RegistryRequest) -> SkiffError:
    """A session that the registry lost, or a token that ran out meanwhile, is a reason to go on."""
    error = await refusal(response, request)
    if response.status in (401, 404, 416):
        return TryAgain(str(error))
    if response.status == 400 and "digest" in str(error):
        return DigestMismatch(str(error))
    return error


async def _pieces(
    open_blob: Callable[[], BinaryIO], offset: int, size: int, sent: Sent
) -> AsyncIterator[bytes]:
    blob = await asyncio.to_thread(open_blob)
    with blob:
        blob.seek(offset)
        while offset < size and (piece := await asyncio.to_thread(blob.read, PIECE)):
            yield piece
            offset += len(piece)
            sent(offset)


def _whole(open_blob: Callable[[], BinaryIO]) -> bytes:
    with open_blob() as blob:
        return blob.read()
