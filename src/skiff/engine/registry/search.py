"""Searching a registry: the v1 way, which the Hub still speaks, else through the catalog of a private one.

term := [registry "/"] words        without a registry: the Hub
"""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from skiff.engine.registry.auth import ANONYMOUS, Authorisation, Credentials
from skiff.engine.registry.hosts import Endpoint, Hosts
from skiff.engine.registry.replies import prepared, refusal
from skiff.engine.registry.transport import RegistryTransport
from skiff.errors import NotFound, Unavailable
from skiff.oci.reference import DEFAULT_DOMAIN

HUB = Endpoint("https://index.docker.io")
LARGEST_ANSWER = 8 << 20  # bytes
CATALOG_PAGES = 50
T = TypeVar("T")


class Hit(Struct, frozen=True):
    """As the v1 API tells it, and as the Engine API does."""

    star_count: int = 0
    is_official: bool = False
    name: str = ""
    is_automated: bool = False
    description: str = ""


class _Hits(Struct, frozen=True):
    results: tuple[Hit, ...] | None = None


class _Catalog(Struct, frozen=True):
    repositories: tuple[str, ...] | None = None


async def search(
    transport: RegistryTransport,
    hosts: Hosts,
    term: str,
    limit: int,
    credentials: Credentials | None,
) -> list[Hit]:
    """What the registry finds, in its order. Unavailable, Unauthorized, NotFound."""
    domain, words = _parted(term)
    if domain == DEFAULT_DOMAIN:
        door = Authorisation(transport, credentials or ANONYMOUS, "", {})
        return await _by_index(door, HUB, words.removeprefix("library/"), limit)
    problem: Exception | None = None
    for endpoint in hosts.endpoints(domain):
        if endpoint.is_mirror:
            continue
        door = Authorisation(transport, credentials or ANONYMOUS, "registry:catalog:*", {})
        try:
            try:
                return await _by_index(door, endpoint, words, limit)
            except NotFound:
                return await _in_catalog(door, endpoint, words, limit)
        except Unavailable as error:
            problem = problem or error
    raise problem or Unavailable(f"no registry answers for {domain}")


async def _by_index(door: Authorisation, endpoint: Endpoint, words: str, limit: int) -> list[Hit]:
    body, _ = await _ask(door, endpoint, f"{endpoint.url}/v1/search?q={quote(words, safe='')}&n={limit}")
    return list(_decoded(body, _Hits, endpoint).results or ())


async def _in_catalog(door: Authorisation, endpoint: Endpoint, words: str, limit: int) -> list[Hit]:
    """Repositories whose name has the words in it."""
    url, found, last = f"{endpoint.url}/v2/_catalog?n=1000", list[Hit](), ""
    for _ in range(CATALOG_PAGES):
        body, headers = await _ask(door, endpoint, url)
        names = _decoded(body, _Catalog, endpoint).repositories or ()
        found += [Hit(name=name) for name in names if words.lower() in name]
        if len(found) >= limit or not names or "next" not in headers.get("Link", "") or names[-1] == last:
            break
        last = names[-1]
        url = f"{endpoint.url}/v2/_catalog?n=1000&last={quote(last, safe='')}"
    return found[:limit]


async def _ask(door: Authorisation, endpoint: Endpoint, url: str) -> tuple[bytes, Mapping[str, str]]:
    request = prepared(endpoint, url)
    async with door.send(request) as response:
        if response.status != 200:
            raise await refusal(response, request)
        return await response.read(LARGEST_ANSWER), response.headers


def _decoded(body: bytes, kind: type[T], endpoint: Endpoint) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"{endpoint.url}: what was found is not understood: {error}") from error


def _parted(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        is_hub = first in ("docker.io", "index.docker.io")
        return (DEFAULT_DOMAIN if is_hub else first), rest
    return DEFAULT_DOMAIN, term
