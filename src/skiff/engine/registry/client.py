"""The OCI distribution protocol, from the client's side: manifests, blobs, tags.

It asks the endpoints of a registry in turn (mirrors first), tries again with growing pauses what may yet
succeed, and checks every manifest against its digest. Blobs are checked by whoever stores them.
OCI distribution-spec 1.1.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from skiff.engine.registry.auth import ANONYMOUS, Authorisation, Credentials
from skiff.engine.registry.hosts import Endpoint, Hosts
from skiff.engine.registry.replies import ATTEMPTS, Denied, delay, prepared, refusal
from skiff.engine.registry.search import Hit, search
from skiff.engine.registry.transport import NoAnswer, RegistryTransport, TryAgain, joined
from skiff.engine.registry.upload import Target
from skiff.errors import DigestMismatch, NotFound, SkiffError, Unauthorized, Unavailable
from skiff.oci import digest as digests
from skiff.oci import manifest as manifests
from skiff.oci.manifest import Descriptor
from skiff.oci.reference import Reference

LARGEST_TAGS = 16 << 20  # bytes of one page of tags
T = TypeVar("T")


class Fetched(Struct, frozen=True):
    """A manifest or index with the exact bytes that its digest names."""

    descriptor: Descriptor
    data: bytes


class _Tags(Struct, frozen=True):
    tags: tuple[str, ...] | None = None


class LoginFailed(SkiffError):
    """The registry itself, not a token server, refused the password."""


class Registries:
    """Every registry, for every user.

    attempts: tries for what may yet succeed. pause: waits that many seconds; tests pass one that does not.
    hosts and attempts may be set anew at any time.
    """

    def __init__(
        self,
        transport: RegistryTransport,
        hosts: Hosts,
        *,
        attempts: int = ATTEMPTS,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self.hosts = hosts
        self.attempts = attempts
        self._pause = pause
        self._tokens: dict[tuple[str, str, Credentials], tuple[str, float]] = {}

    def repository(
        self, reference: Reference, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> "Repository":
        """The repository of that reference, to read from. insecure: its registry may lack a certificate."""
        asked = []
        for endpoint in self.hosts.endpoints(reference.domain, insecure=insecure):
            who = ANONYMOUS if endpoint.is_mirror or credentials is None else credentials
            scope = f"repository:{endpoint.prefix}{reference.path}:pull"
            asked.append((endpoint, Authorisation(self._transport, who, scope, self._tokens)))
        elsewhere = Authorisation(self._transport, ANONYMOUS, "", {})
        return Repository(reference, asked, elsewhere, self._pause, self.attempts)

    async def target(self, reference: Reference, credentials: Credentials | None = None) -> Target:
        """The repository of that reference, to write to; its registry has answered. Unavailable."""

        def door(endpoint: Endpoint, reads: Sequence[str]) -> Authorisation:
            scopes = [f"repository:{reference.path}:pull,push", *(f"repository:{one}:pull" for one in reads)]
            return Authorisation(self._transport, credentials or ANONYMOUS, " ".join(scopes), self._tokens)

        endpoints = [one for one in self.hosts.endpoints(reference.domain) if not one.is_mirror]
        target = Target(reference, endpoints, door, self._transport, self._pause)
        await target.find()
        return target

    async def search(self, term: str, limit: int, credentials: Credentials | None = None) -> list[Hit]:
        """What a registry finds for `[registry/]words`. Unavailable, Unauthorized, NotFound."""
        return await search(self._transport, self.hosts, term, limit, credentials)

    async def login(self, domain: str, credentials: Credentials) -> str:
        """Return when the registry accepts the credentials: an identity token to use instead, or nothing.

        Unauthorized, Unavailable, LoginFailed.
        """
        problem: SkiffError | None = None
        for endpoint in self.hosts.endpoints(domain):
            if endpoint.is_mirror:
                continue
            door = Authorisation(self._transport, credentials, "", {}, stays=True)
            request = prepared(endpoint, f"{endpoint.url}/v2/")
            try:
                async with door.send(request) as response:
                    if response.status == 200:
                        return door.identity_token
                    raise LoginFailed(
                        f"login attempt to {request.url} failed with status: {_status(response.status)}"
                    )
            except Unauthorized as error:
                reason = str(error)
                raise Unauthorized(
                    reason if reason.startswith("Get ") else f'Get "{request.url}": {reason}'
                ) from error
            except Unavailable as error:
                problem = problem or error
        raise problem or Unavailable(f"no registry answers for {domain}")


class Repository:
    """One repository, seen by one user. The endpoint that answered is asked first from then on."""

    def __init__(
        self,
        reference: Reference,
        endpoints: list[tuple[Endpoint, Authorisation]],
        elsewhere: Authorisation,
        pause: Callable[[float], Awaitable[None]],
        attempts: int,
    ) -> None:
        self._reference = reference
        self._endpoints = endpoints
        self._elsewhere = elsewhere
        self._pause = pause
        self._attempts = attempts

    async def resolve(self, identifier: str) -> Fetched:
        """The manifest of a tag or digest. NotFound and Denied in Docker's words; DigestMismatch."""
        try:
            return await self._somewhere(lambda endpoint, door: self._manifest(endpoint, door, identifier))
        except Denied as error:
            raise self._no_access(error) from error
        except NotFound as error:
            raise NotFound(f"manifest for {self._named(identifier)} not found: {error}") from error
        except Unauthorized as error:  # Docker knocks with a HEAD
            raise type(error)(re.sub(r"^Get ", "Head ", str(error))) from error

    async def blob(self, descriptor: Descriptor, offset: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a blob from offset on. A cut connection is taken up again where it broke.

        NotFound, Unavailable. The bytes are not verified here.
        """
        position, failures = offset, 0
        while True:
            before = position
            try:
                async for chunk in self._blob_once(descriptor, position):
                    position += len(chunk)
                    yield chunk
                if position >= descriptor.size:
                    return
                raise TryAgain(f"blob {descriptor.digest}: unexpected EOF after {position} bytes")
            except NotFound:
                raise
            except Unavailable as error:
                if position >= descriptor.size:
                    return  # all of it came, whatever was promised besides
                failures = 1 if position > before else failures + 1  # progress earns new patience
                if failures >= self._attempts:
                    raise
                pause = delay(failures, error)
            await self._pause(pause)

    async def tags(self) -> list[str]:
        """Every tag of the repository."""
        try:
            return await self._somewhere(self._tags)
        except Denied as error:
            raise self._no_access(error) from error
        except NotFound as error:
            raise NotFound(f"repository {self._reference.familiar_name} not found: {error}") from error

    async def referrers(self, subject: str) -> list[Descriptor]:
        """What says something about that manifest, as far as the registry can tell."""
        return await self._somewhere(lambda endpoint, door: self._referrers(endpoint, door, subject))

    async def _referrers(self, endpoint: Endpoint, door: Authorisation, subject: str) -> list[Descriptor]:
        request = prepared(
            endpoint,
            self._url(endpoint, f"referrers/{subject}"),
            {"Accept": manifests.OCI_INDEX},
        )
        async with door.send(request) as response:
            if response.status != 200:
                raise await refusal(response, request)
            data = await response.read(manifests.LARGEST)
        found = manifests.parse(data, manifests.OCI_INDEX)
        return list(found.manifests) if isinstance(found, manifests.Index) else []

    def _url(self, endpoint: Endpoint, rest: str) -> str:
        return f"{endpoint.url}/v2/{endpoint.prefix}{self._reference.path}/{rest}"

    def _no_access(self, error: Denied) -> Denied:
        return Denied(
            f"pull access denied for {self._reference.familiar_name}, repository does not exist"
            f" or may require 'docker login': {error}"
        )

    def _named(self, identifier: str) -> str:
        return f"{self._reference.familiar_name}{'@' if ':' in identifier else ':'}{identifier}"

    async def _manifest(self, endpoint: Endpoint, door: Authorisation, identifier: str) -> Fetched:
        request = prepared(
            endpoint,
            self._url(endpoint, f"manifests/{identifier}"),
            {"Accept": ", ".join(manifests.ACCEPTED)},
        )
        async with door.send(request) as response:
            if response.status != 200:
                raise await refusal(response, request)
            data = await response.read(manifests.LARGEST)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
            promised = response.headers.get("Docker-Content-Digest", "")
        actual = digests.of(data)
        # for a tag, the registry's own word; one by another algorithm is passed over
        expected = identifier if ":" in identifier else promised if promised.startswith("sha256:") else actual
        if actual != expected:
            raise DigestMismatch(f"manifest verification failed for digest {expected}")
        if media_type not in manifests.ACCEPTED:
            media_type = manifests.type_of(manifests.parse(data))
        return Fetched(Descriptor(media_type, actual, len(data)), data)

    async def _blob_once(self, descriptor: Descriptor, offset: int) -> AsyncIterator[bytes]:
        problems: list[tuple[bool, SkiffError]] = []
        places = [
            (endpoint, door, self._url(endpoint, f"blobs/{descriptor.digest}"))
            for endpoint, door in self._endpoints
        ]
        # a foreign layer lies where its descriptor says; only its digest vouches for it
        places += [(Endpoint(url, is_mirror=True), self._elsewhere, url) for url in descriptor.urls or ()]
        for endpoint, door, url in places:
            headers = {"Range": f"bytes={offset}-{descriptor.size - 1}"} if offset else {}
            request = prepared(endpoint, url, headers)
            started = False
            try:
                async with door.send(request) as response:
                    if response.status not in (200, 206):
                        raise await refusal(response, request)
                    started = True
                    skip = offset if response.status == 200 else 0  # it did not understand Range
                    async for chunk in response.chunks():
                        if skip:
                            dropped = min(skip, len(chunk))
                            skip -= dropped
                            chunk = chunk[dropped:]
                        if chunk:
                            yield chunk
                    return
            except SkiffError as error:
                may_lie_elsewhere = isinstance(error, NotFound) and descriptor.urls
                if started or (_speaks(error) and not endpoint.is_mirror and not may_lie_elsewhere):
                    raise
                problems.append((endpoint.is_mirror, error))
        raise min(problems, key=lambda one: one[0])[1]  # the registry's own word before a mirror's

    async def _tags(self, endpoint: Endpoint, door: Authorisation) -> list[str]:
        url: str | None = self._url(endpoint, "tags/list")
        found: list[str] = []
        seen: set[str] = set()
        while url and url not in seen:
            seen.add(url)
            request = prepared(endpoint, url)
            async with door.send(request) as response:
                if response.status != 200:
                    raise await refusal(response, request)
                body = await response.read(LARGEST_TAGS)
                following = _next_page(response.headers.get("Link", ""))
            try:
                found += msgspec.json.decode(body, type=_Tags).tags or ()
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Unavailable(f"{url}: the list of tags is not understood: {error}") from error
            url = _within(endpoint, joined(url, following)) if following else None
        return list(dict.fromkeys(found))

    async def _somewhere(self, ask: Callable[[Endpoint, Authorisation], Awaitable[T]]) -> T:
        """The first endpoint's answer; each is asked again while its failure may pass."""
        problems: list[tuple[bool, SkiffError]] = []
        for number, (endpoint, door) in enumerate(self._endpoints):
            try:
                is_last = number == len(self._endpoints) - 1
                answer = await self._patiently(ask, endpoint, door, is_last=is_last)
            except SkiffError as error:
                if _speaks(error) and not endpoint.is_mirror:
                    raise
                problems.append((endpoint.is_mirror, error))
                continue
            self._endpoints = self._endpoints[number:] + self._endpoints[:number]
            return answer
        raise min(problems, key=lambda one: one[0])[1]

    async def _patiently(
        self,
        ask: Callable[[Endpoint, Authorisation], Awaitable[T]],
        endpoint: Endpoint,
        door: Authorisation,
        *,
        is_last: bool,
    ) -> T:
        # who does not answer a word may want the next endpoint's scheme
        passing = (TryAgain, NoAnswer) if is_last else TryAgain
        for attempt in range(1, 2 if endpoint.is_mirror else self._attempts):
            try:
                return await ask(endpoint, door)
            except passing as error:
                await self._pause(delay(attempt, error))
        return await ask(endpoint, door)


def _speaks(error: SkiffError) -> bool:
    """The registry itself said no: another scheme of the same host will not say yes."""
    return isinstance(error, NotFound | Unauthorized | DigestMismatch | TryAgain)


def _status(code: int) -> str:
    """`401 Unauthorized`."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _next_page(link: str) -> str | None:
    """The target of `<url>; rel="next"`. RFC 8288."""
    for part in link.split(","):
        target, _, parameters = part.strip().partition(";")
        if target.startswith("<") and target.endswith(">") and "next" in parameters:
            return quote(target[1:-1], safe=":/?&=%~+,@[]")
    return None


def _within(endpoint: Endpoint, url: str) -> str:
    if not url.startswith(endpoint.url + "/"):
        raise Unavailable(f"{endpoint.url}: the next page of tags is said to be elsewhere: {url}")
    return url
