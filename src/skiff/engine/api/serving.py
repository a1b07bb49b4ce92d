"""/skiff/registry: the registry's door opened to a network, for as long as the client stays.

    skiff serve-registry ── POST /skiff/registry ──► a listener of its own ──► gate ──► /v2/ (distribution.py)

The reply is a stream: first the address, then a line for each request. When the client leaves, or the engine
does, the listener is gone. The gate asks for a password where a file of them was given, and lets only reads
through where that was wished.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import os
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct

from skiff.engine.api import listeners, streaming
from skiff.engine.api.app import App, Route, Routes, post
from skiff.engine.api.call import Call
from skiff.engine.api.distribution import DistributionRoutes, problem, refused
from skiff.engine.images.hosting import Hosting
from skiff.errors import InvalidParameter
from skiff.linux import passwords
from skiff.linux.fds import memory_file

PORT: Final = 5000
READS: Final = ("GET", "HEAD")
MOST_LINES: Final = 10_000  # that a client who does not read may be behind
_BCRYPT: Final = re.compile(r"\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
REALM: Final = {"WWW-Authenticate": 'Basic realm="skiff"'}


class Serving(Struct, frozen=True, kw_only=True, rename="pascal"):
    """What is asked for. listen: host:port. htpasswd: the text of such a file; empty: nobody is asked.

    certificate, key: PEM texts, a chain and its private key; empty: no TLS.
    """

    listen: str
    read_only: bool = False
    htpasswd: str = ""
    certificate: str = ""
    key: str = ""


class Served(Struct, frozen=True, rename="pascal"):
    """One request. seconds: until its reply had begun, or ended."""

    client: str
    user: str
    method: str
    path: str
    status: int
    seconds: float


class ServingRoutes:
    def __init__(self, hosting: Hosting) -> None:
        self.hosting = hosting

    def routes(self) -> Iterator[Route]:
        yield post("/skiff/registry", self.serve, cancel=True)

    async def serve(self, call: Call) -> web.StreamResponse:
        asked = await call.json(Serving)
        gate = Gate(self.hosting, users(asked.htpasswd), read_only=asked.read_only, asks=bool(asked.htpasswd))
        tls = _tls(asked.certificate, asked.key) if asked.certificate or asked.key else None
        return await streaming.lines(call.request, self._told(asked.listen, gate, tls))

    async def _told(self, address: str, gate: "Gate", tls: ssl.SSLContext | None) -> AsyncIterator[bytes]:
        listening = listeners.tcp_socket(address, PORT)
        factory = gate.server()
        server = await asyncio.get_running_loop().create_server(factory, sock=listening, ssl=tls)
        try:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            yield msgspec.json.encode({"Address": shown}) + b"\n"
            while True:
                yield msgspec.json.encode(await gate.seen.get()) + b"\n"
        finally:
            server.close()
            await factory.shutdown(0.1)


def rooms(hosting: Hosting) -> tuple[Routes, Routes]:
    """The registry's door on the API's own socket, and what opens it to a network."""
    return DistributionRoutes(hosting), ServingRoutes(hosting)


class Gate(App):
    """The door of one listener."""

    def __init__(self, hosting: Hosting, known: Mapping[str, bytes], *, read_only: bool, asks: bool) -> None:
        super().__init__([DistributionRoutes(hosting, prefix="")])
        self.seen: asyncio.Queue[Served] = asyncio.Queue(MOST_LINES)
        self._known = known
        self._read_only = read_only
        self._asks = asks
        self._salt = secrets.token_bytes(16)
        self._passed: dict[str, bytes] = {}  # user → what let them in: the slow check is made once

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        began, user = time.monotonic(), ""
        try:
            user = await self._user(request)
            if self._asks and not user:
                response: web.StreamResponse = problem(401, "UNAUTHORIZED", "authentication required", REALM)
            elif self._read_only and request.method not in READS:
                response = problem(405, "UNSUPPORTED", "this registry is read only", {"Allow": "GET, HEAD"})
            else:
                response = await super().handle(request)
        except Exception as error:
            response = refused(error)
        line = Served(
            request.remote or "",
            user,
            request.method,
            request.rel_url.raw_path,
            response.status,
            round(time.monotonic() - began, 3),
        )
        with contextlib.suppress(asyncio.QueueFull):
            self.seen.put_nowait(line)
        return response

    async def _user(self, request: web.BaseRequest) -> str:
        """Who asks, when the password is right; empty for everybody else."""
        if not self._asks:
            return ""
        name, password = _basic(request.headers.get("Authorization", ""))
        seal = hmac.digest(self._salt, f"{name}\0{password}".encode(), "sha256")
        if name and hmac.compare_digest(self._passed.get(name, b""), seal):
            return name
        # Somebody unknown costs as much time as a wrong password.
        hashed = self._known.get(name, NOBODY)
        if not await asyncio.to_thread(passwords.matches, password.encode(), hashed) or hashed is NOBODY:
            return ""
        self._passed[name] = seal
        return name


NOBODY: Final = b"$2y$05$KIXl9Zz1y8Qe0rWjvQfUeOe3mJ0i8k0b6WJ8mJ0i8k0b6WJ8mJ0i8"


def users(text: str) -> dict[str, bytes]:
    """Name → hash, of the text of an htpasswd file. InvalidParameter.

    line := name ":" hash      hash: bcrypt, as `htpasswd -B` makes it; empty lines and # are passed over
    """
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, hashed = line.partition(":")
        if not name or not colon or not _BCRYPT.fullmatch(hashed):
            raise InvalidParameter(
                f"invalid htpasswd, line {number}: expected a name and a bcrypt hash (htpasswd -B)"
            )
        found[name] = hashed.encode()
    return found


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    """From PEM texts. InvalidParameter."""
    files: list[int] = []  # ssl reads files alone, and a key does not belong on a disk
    try:
        files += [memory_file(name, text.encode()) for name, text in (("chain", certificate), ("key", key))]
        return listeners.server_context(*(f"/proc/self/fd/{one}" for one in files))
    except (OSError, ssl.SSLError) as error:
        raise InvalidParameter(
            f"cannot use that certificate with that key: {error}: expected PEM files that belong together,"
            " the key without a passphrase"
        ) from error
    finally:
        for one in files:
            os.close(one)


def _basic(header: str) -> tuple[str, str]:
    """Name and password of `Basic <base64>`; empty ones when it is nothing of the kind."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        pair = base64.b64decode(rest.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    name, _, password = pair.partition(":")
    return name, password
