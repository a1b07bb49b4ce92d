"""One request to a registry, one streamed reply: the seam between the protocol and the network.

It follows redirects, never carrying credentials to another origin, nor from https to http. It knows neither
authorisation nor retries: those are wrapped around it (auth.py, client.py).
"""

import asyncio
import errno
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
from msgspec import Struct
from yarl import URL

from skiff.engine.registry.proxies import Proxies
from skiff.errors import Unavailable

READ_BUFFER = 1 << 20  # bytes; asyncio itself reads at most 256 KiB at a time
CONNECT_SECONDS = 15.0
SILENCE_SECONDS = 60.0  # without a byte, the peer is taken for dead
REDIRECTS = 10
LONGEST_WAIT = 60.0  # seconds that are waited where the registry says how long
NO_PROXIES = Proxies()
_REDIRECT_STATUS = {301, 302, 303, 307, 308}
_ADDRESS = re.compile(r"\('([0-9a-fA-F.:%]+)', (\d+)")


class TryAgain(Unavailable):
    """The same request may succeed later. after: in so many seconds, if the registry said when."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class NoAnswer(Unavailable):
    """The connection was made, and broke before an answer came."""


class RegistryRequest(Struct, frozen=True, kw_only=True):
    """verify: check the certificate. certificates: directories of ca *.crt and client *.cert/*.key pairs."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: bytes | AsyncIterator[bytes] | None = None
    verify: bool = True
    certificates: tuple[str, ...] = ()


class RegistryResponse(Protocol):
    """url: where the answer came from, after redirects."""

    url: str
    status: int
    headers: Mapping[str, str]

    def challenges(self) -> list[str]: ...  # the WWW-Authenticate values
    async def read(self, limit: int) -> bytes: ...  # Unavailable when there is more
    def chunks(self) -> AsyncIterator[bytes]: ...  # TryAgain when cut short


class RegistryTransport(Protocol):
    """Raises Unavailable when no answer came; NoAnswer when somebody was there."""

    def send(self, request: RegistryRequest) -> AbstractAsyncContextManager[RegistryResponse]: ...


def joined(base: str, target: str) -> str:
    """The URL that target, which somebody else wrote, means at base. Unavailable where it is none."""
    try:
        found = urljoin(base, target)
        _ = urlsplit(found).port  # read, it is checked
        URL(found, encoded=True).origin()
    except ValueError as error:
        raise Unavailable(f"{base}: it leads to {target!r}, which is no URL: {error}") from error
    return found


def passing(text: str, response: RegistryResponse) -> Unavailable:
    """The error of a reply that says: not now. When the registry wants us back is in it."""
    after = retry_after(response.headers.get("Retry-After", ""), time.time())
    if after is not None and after > LONGEST_WAIT:
        return Unavailable(f"{text} (the registry asks for a pause of {after:.0f} seconds)")
    return TryAgain(text, after)


def retry_after(value: str, now: float) -> float | None:
    """Seconds from now, of a Retry-After header; None where it says nothing that can be understood.

    value := seconds | HTTP-date      RFC 9110 § 10.2.3
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class HttpResponse:
    """A RegistryResponse of aiohttp's client."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.url = str(response.url)
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    def challenges(self) -> list[str]:
        return list(self._response.headers.getall("WWW-Authenticate", []))

    async def read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise Unavailable(f"{self.url}: the answer is longer than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryAgain(f"{self.url}: {reason_of(error) or 'unexpected EOF'}") from error


class HttpTransport:
    """A RegistryTransport on aiohttp's client. Its connections are kept until `close`."""

    def __init__(self, *, user_agent: str = "skiff", proxies: Proxies = NO_PROXIES) -> None:
        self._proxies = proxies
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}

    async def close(self) -> None:
        """Let go of every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def send(self, request: RegistryRequest) -> AsyncIterator[RegistryResponse]:
        url = URL(joined(request.url, ""), encoded=True)
        headers, method = dict(request.headers), request.method
        body: Any = request.body
        for _ in range(REDIRECTS):
            async with await self._ask(method, url, headers, body, request) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECT_STATUS or not location or body is not None:
                    yield HttpResponse(response)
                    return
                target = URL(joined(str(url), location), encoded=True)
            if target.scheme not in ("http", "https") or (url.scheme == "https" and target.scheme == "http"):
                raise Unavailable(f"{request.url}: refused a redirect to {target.scheme}://{target.host}")
            if target.origin() != url.origin():
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            if response.status == 303 and method != "HEAD":
                method = "GET"
            url = target
        raise Unavailable(f"{request.url}: stopped after {REDIRECTS} redirects")

    async def _ask(
        self, method: str, url: URL, headers: Mapping[str, str], body: Any, request: RegistryRequest
    ) -> aiohttp.ClientResponse:
        try:
            return await self._open().request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                ssl=self._trust(request),
                proxy=self._proxies.of(str(url)) or None,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # an unreachable registry is named by its root, whatever was asked: Docker knocks there first
            where = f"{url.origin()}/v2/" if isinstance(error, aiohttp.ClientConnectorError) else url
            broke = isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
            kind = NoAnswer if broke and not isinstance(error, aiohttp.ClientConnectorError) else Unavailable
            raise kind(f'{method.title()} "{where}": {reason_of(error)}') from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=16, ttl_dns_cache=60),
                headers={"User-Agent": self._user_agent},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS
                ),
                read_bufsize=READ_BUFFER,
                auto_decompress=False,  # a digest names the bytes as sent
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _trust(self, request: RegistryRequest) -> ssl.SSLContext | bool:
        if not request.verify:
            return False
        directories = tuple(one for one in request.certificates if Path(one).is_dir())
        if not directories:
            return self._system()
        context = self._contexts.get(directories)
        if context is None:
            context = ssl.create_default_context()
            for directory in map(Path, directories):
                for authority in sorted(directory.glob("*.crt")):
                    context.load_verify_locations(cafile=str(authority))
                for certificate in sorted(directory.glob("*.cert")):
                    context.load_cert_chain(str(certificate), str(certificate.with_suffix(".key")))
            self._contexts[directories] = context
        return context

    def _system(self) -> ssl.SSLContext:
        """Trusts what this host trusts; made at first use, because reading its authorities takes a while."""
        if () not in self._contexts:
            self._contexts[()] = ssl.create_default_context()
        return self._contexts[()]


def reason_of(error: BaseException) -> str:
    """What went wrong, in the words that people search for."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"tls: failed to verify certificate: x509: {_verification(error)}"
        case aiohttp.ClientConnectorDNSError():
            return f"dial tcp: lookup {error.host}: no such host"
        case aiohttp.ClientProxyConnectionError():
            return f"proxyconnect tcp: dial tcp {_address(error)}: connect: {_connect(error.os_error)}"
        case aiohttp.ClientHttpProxyError():
            return f"{error.message}"
        case aiohttp.ClientConnectorError():
            return f"dial tcp {_address(error)}: connect: {_connect(error.os_error)}"
        case TimeoutError() | asyncio.TimeoutError():
            return "net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "unexpected EOF"
        case _:
            return str(error) or type(error).__name__


def _address(error: aiohttp.ClientConnectorError) -> str:
    found = _ADDRESS.search(str(error.os_error))
    host = found[1] if found else str(error.host)
    return f"[{host}]:{error.port}" if ":" in host else f"{host}:{error.port}"


def _connect(error: OSError) -> str:
    match error.errno:
        case errno.ECONNREFUSED:
            return "connection refused"
        case errno.ENETUNREACH:
            return "network is unreachable"
        case errno.EHOSTUNREACH:
            return "no route to host"
        case errno.ETIMEDOUT:
            return "connection timed out"
        case _:
            # several addresses were tried: asyncio joins their errors in one text
            return "connection refused" if "Connect call failed" in str(error) else str(error)


def _verification(error: Exception) -> str:
    text = str(error)
    if "self-signed" in text or "self signed" in text or "unable to get local issuer" in text:
        return "certificate signed by unknown authority"
    return text
