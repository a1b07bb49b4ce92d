"""Who we are to a registry: credentials, challenges (pure) and tokens.

A registry answers 401 with a challenge; Bearer sends us to a token server, Basic wants the password itself.
Tokens are kept until shortly before they expire, per origin, scope and user.
RFC 7235 § 2.1; distribution, docs/spec/auth/token.md and oauth.md.
"""

import base64
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.registry.transport import (
    RegistryRequest,
    RegistryResponse,
    RegistryTransport,
    joined,
    passing,
)
from skiff.errors import NoCredentials, Unauthorized, Unavailable

TOKEN_SECONDS = 60  # as the specification says, when the server does not
EARLY_SECONDS = 10  # a token is renewed this long before its end
LARGEST_ANSWER = 1 << 20  # bytes
LONGEST_WORDS = 1000  # bytes of a refusal that are shown
CLIENT_ID = "skiff"

_SCHEME = re.compile(r"\s*,*\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+|$|(?=,))")
_PARAMETER = re.compile(
    r'\s*,*\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?=,|$|\s)'
)


class Credentials(Struct, frozen=True):
    """What X-Registry-Auth carries. identity_token: an OAuth2 refresh token; registry_token: a bearer one."""

    username: str = ""
    password: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


ANONYMOUS = Credentials()


class Challenge(Struct, frozen=True):
    """scheme and parameter names in lower case."""

    scheme: str
    parameters: dict[str, str]


class _Problem(Struct, frozen=True):
    message: str = ""


class _Problems(Struct, frozen=True):
    errors: tuple[_Problem, ...] = ()


class _Token(Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_in: int | None = None


def challenges(headers: Sequence[str]) -> list[Challenge]:
    """The challenges in the values of WWW-Authenticate; what cannot be understood is passed over.

    header    := challenge ("," challenge)*
    challenge := scheme [parameter ("," parameter)*]      parameter := name "=" (token | quoted)
    """
    found: list[Challenge] = []
    for header in headers:
        position = 0
        while match := _SCHEME.match(header, position):
            position = match.end()
            parameters: dict[str, str] = {}
            while pair := _PARAMETER.match(header, position):
                quoted = pair[2]
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else pair[3]
                parameters.setdefault(pair[1].lower(), value)
                position = pair.end()
            found.append(Challenge(match[1].lower(), parameters))
    return found


class Authorisation:
    """A RegistryTransport that answers challenges on behalf of one user, for one scope.

    scope: `repository:library/alpine:pull`, or several with spaces between.
    tokens: shared between the authorisations of one client.
    """

    def __init__(
        self,
        transport: RegistryTransport,
        credentials: Credentials,
        scope: str,
        tokens: dict[tuple[str, str, Credentials], tuple[str, float]],
        *,
        stays: bool = False,
    ) -> None:
        """stays: ask for an identity token too, which stands for the password later."""
        self.identity_token = ""
        self._stays = stays
        self._transport = transport
        self._credentials = credentials
        self._scope = scope
        self._tokens = tokens

    def send(self, request: RegistryRequest) -> AbstractAsyncContextManager[RegistryResponse]:
        return self._send(request)

    @asynccontextmanager
    async def _send(self, request: RegistryRequest) -> AsyncIterator[RegistryResponse]:
        key = (_origin(request.url), self._scope, self._credentials)
        async with self._transport.send(self._signed(request, key)) as response:
            if response.status != 401:
                yield response
                return
            asked = challenges(response.challenges())
            self._tokens.pop(key, None)
            if not isinstance(request.body, bytes | None):  # it is spent: the caller sends it anew
                yield response
                return
        header, seconds = await self._answer(asked, request)
        self._tokens[key] = (header, time.monotonic() + seconds)
        async with self._transport.send(self._signed(request, key)) as response:
            yield response

    def _signed(self, request: RegistryRequest, key: tuple[str, str, Credentials]) -> RegistryRequest:
        if self._credentials.registry_token:
            header = f"Bearer {self._credentials.registry_token}"
        else:
            header, until = self._tokens.get(key, ("", 0.0))
            if not header or until < time.monotonic():
                return request
        return replace(request, headers={**request.headers, "Authorization": header})

    async def _answer(self, asked: Sequence[Challenge], request: RegistryRequest) -> tuple[str, float]:
        """An Authorization header and for how many seconds it is good. Unauthorized."""
        for challenge in asked:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                return await self._token(challenge.parameters, request)
        for challenge in asked:
            if challenge.scheme == "basic":
                if not self._credentials.username:
                    raise NoCredentials(
                        f'{request.method.title()} "{request.url}": no basic auth credentials'
                    )
                return _basic(self._credentials), float("inf")
        raise Unauthorized("unauthorized: authentication required")

    async def _token(self, parameters: dict[str, str], request: RegistryRequest) -> tuple[str, float]:
        realm, service = joined(request.url, parameters["realm"]), parameters.get("service", "")
        if urlsplit(request.url).scheme == "https" and urlsplit(realm).scheme != "https":
            raise Unauthorized(f"refused to ask for a token at {realm}: the registry itself uses https")
        asked = (*self._scope.split(" "), *parameters.get("scope", "").split(" "))
        scopes = [one for one in dict.fromkeys(asked) if one]
        if self._credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity_token,
                "service": service,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
            }
            ask = RegistryRequest(
                method="POST",
                url=realm,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(form).encode(),
                verify=request.verify,
                certificates=request.certificates,
            )
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            if self._stays:
                query += [("client_id", CLIENT_ID), ("offline_token", "true")]
            headers = {}
            if self._credentials.username:
                query.insert(0, ("account", self._credentials.username))
                headers["Authorization"] = _basic(self._credentials)
            mark = "&" if "?" in realm else "?"
            ask = RegistryRequest(
                url=f"{realm}{mark}{urlencode(query, quote_via=quote, safe=':/,')}",
                headers=headers,
                verify=request.verify,
                certificates=request.certificates,
            )
        async with self._transport.send(ask) as response:
            body = await response.read(LARGEST_ANSWER)
            if response.status in (401, 403):
                raise Unauthorized(f"unauthorized: {_words(body)}")
            if response.status != 200:
                text = f"{realm}: the token server answered {response.status}"
                may_pass = response.status == 429 or response.status >= 500
                raise passing(text, response) if may_pass else Unavailable(text)
        try:
            answer = msgspec.json.decode(body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unavailable(f"{realm}: the token server's answer is not understood: {error}") from error
        self.identity_token = answer.refresh_token
        token = answer.token or answer.access_token
        if not token or not token.isprintable() or not token.isascii():
            raise Unauthorized("authorization server did not include a token in the response")
        return f"Bearer {token}", max(answer.expires_in or TOKEN_SECONDS, TOKEN_SECONDS) - EARLY_SECONDS


def _words(body: bytes) -> str:
    """What a token server says with its no: the errors in its body, else its body, as Docker does."""
    try:
        problems = msgspec.json.decode(body, type=_Problems).errors
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problems = ()
    if problems:
        return "; ".join(one.message for one in problems)
    text = " ".join(body[:LONGEST_WORDS].decode(errors="replace").split())
    return text if text.isprintable() and text else "incorrect username or password"


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
