"""Uploads to a registry that breaks connections and remembers what had arrived."""

import hashlib
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import BinaryIO

import pytest

from skiff.engine.registry.client import Registries
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.replies import Denied
from skiff.engine.registry.transport import RegistryRequest, RegistryResponse
from skiff.errors import Unavailable
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor
from skiff.oci.reference import parse

BASE = "https://r.example/v2/a/b"


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.url = f"{BASE}/blobs/uploads/"
        self.status = status
        self.headers: Mapping[str, str] = headers or {}
        self.body = body

    def challenges(self) -> list[str]:
        return []

    async def read(self, limit: int) -> bytes:
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


class Server:
    """breaks: after how many bytes each of the next streams ends."""

    def __init__(self, breaks: list[int]) -> None:
        self.breaks = breaks
        self.held = b""
        self.log: list[str] = []
        self.denies = False
        self.lives_elsewhere = ""

    @asynccontextmanager
    async def send(self, request: RegistryRequest) -> AsyncIterator[RegistryResponse]:
        yield await self._answer(request)

    async def _answer(self, request: RegistryRequest) -> Reply:
        self.log.append(f"{request.method} {request.headers.get('Content-Range', '')}".strip())
        place = {"Location": f"{self.lives_elsewhere}/v2/a/b/blobs/uploads/1?state=x"}
        match request.method:
            case "POST" if self.denies:
                return Reply(
                    403,
                    body=b'{"errors": [{"code": "DENIED", "message": "requested access to'
                    b' the resource is denied"}]}',
                )
            case "POST":
                self.held = b""
                return Reply(202, place)
            case "PATCH":
                assert not isinstance(request.body, bytes | None)
                async for piece in request.body:
                    if self.breaks and len(self.held) + len(piece) > self.breaks[0]:
                        self.held += piece[: self.breaks.pop(0) - len(self.held)]
                        raise Unavailable("reset") from ConnectionResetError()
                    self.held += piece
                return Reply(202, place)
            case "GET" if "uploads" in request.url:
                return Reply(204, {**place, "Range": f"0-{len(self.held) - 1}"})
            case "PUT":
                if isinstance(request.body, bytes):
                    self.held += request.body
                wanted = request.url.partition("digest=")[2]
                good = wanted == f"sha256:{hashlib.sha256(self.held).hexdigest()}"
                return Reply(201 if good else 400)
        return Reply(200)


async def pushed(server: Server, data: bytes) -> list[int]:
    async def pause(seconds: float) -> None:
        assert seconds < 60

    target = await Registries(server, Hosts(), pause=pause).target(parse("r.example/a/b"))
    digest = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
    told: list[int] = []

    def opened() -> BinaryIO:
        return io.BytesIO(data)

    await target.upload(Descriptor("x", digest, len(data)), opened, told.append)
    return told


async def test_what_arrived_is_not_sent_again() -> None:
    data = bytes(range(256)) * (5 << 12)
    server = Server([2 << 20, 3_500_000])
    told = await pushed(server, data)
    assert server.held == data
    assert told[-1] == len(data)
    last = len(data) - 1
    assert server.log == [
        "GET",
        "POST",
        "PATCH",
        "GET",
        f"PATCH {2 << 20}-{last}",
        "GET",
        f"PATCH 3500000-{last}",
        "PUT",
    ]


async def test_a_small_blob_goes_in_one_request() -> None:
    server = Server([])
    await pushed(server, b"small")
    assert server.log == ["GET", "POST", "PUT"]
    assert server.held == b"small"


async def test_patience_ends() -> None:
    server = Server([1] * 50)
    with pytest.raises(Unavailable, match="reset"):
        await pushed(server, b"x" * (2 << 20))


async def test_a_registry_that_denies() -> None:
    server = Server([])
    server.denies = True
    with pytest.raises(Denied) as denied:
        await pushed(server, b"x")
    assert str(denied.value) == "denied: requested access to the resource is denied"
