"""What a registry says of an image, without pulling it: manifests, platforms; searching."""

import base64
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.filters import Filters
from skiff.docker.image import DistributionInspect
from skiff.engine.registry.auth import Credentials
from skiff.engine.registry.client import Fetched, Registries, Repository
from skiff.engine.registry.search import Hit
from skiff.errors import InvalidParameter, NotFound
from skiff.oci import manifest as manifests
from skiff.oci.image import LARGEST, ImageConfig
from skiff.oci.image import parse as parse_config
from skiff.oci.manifest import CONFIGS, Descriptor, Index, Manifest
from skiff.oci.platform import Platform
from skiff.oci.reference import parse

SEARCH_FILTERS = ("is-automated", "is-official", "stars")
SEARCH_LIMIT = 25
MOST_FOUND = 100


class Told(Struct, frozen=True, rename="pascal"):
    """One manifest. raw: base64 of its bytes. reference: by what it can be had."""

    reference: str
    descriptor: Descriptor
    raw: str


class Remote:
    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def describe(self, name: str, credentials: Credentials | None) -> DistributionInspect:
        """DistributionInspect. NotFound, Unauthorized, Unavailable, InvalidParameter."""
        source, top, found = await self._top(name, credentials)
        if isinstance(found, Index):
            platforms = tuple(one.platform for one in found.manifests if one.platform is not None)
        else:
            own = await _platform(source, found)
            platforms = (own,) if own else ()
        return DistributionInspect(descriptor=top.descriptor, platforms=platforms)

    async def manifests(
        self, name: str, credentials: Credentials | None, *, insecure: bool = False
    ) -> Sequence[Told]:
        """The manifest of that name; of an index itself first, then every manifest that it lists."""
        reference = str(parse(name).tagged().familiar)
        source, top, found = await self._top(name, credentials, insecure=insecure)
        if isinstance(found, Manifest):
            own = await _platform(source, found)
            return [_told(reference, replace(top.descriptor, platform=own), top.data)]
        told = [_told(reference, top.descriptor, top.data)]
        for one in found.manifests:
            inner = await source.resolve(one.digest)
            described = Descriptor(one.media_type, one.digest, one.size, platform=one.platform)
            told.append(_told(f"{reference}@{one.digest}", described, inner.data))
        return told

    async def search(
        self, term: str, filters: Filters, limit: int | None, credentials: Credentials | None
    ) -> list[Hit]:
        """ImageSearch. InvalidParameter, NotFound, Unavailable."""
        limit = SEARCH_LIMIT if limit is None else limit
        if not 1 <= limit <= MOST_FOUND:
            raise InvalidParameter(f"limit {limit} is outside the range of [1, {MOST_FOUND}]")
        official, automated = filters.boolean("is-official"), filters.boolean("is-automated")
        stars = max((_stars(text) for text in filters.values("stars")), default=0)
        if automated:
            return []  # the Hub builds nothing any more
        found = await self._registries.search(term, limit, credentials)
        return [
            replace(one, is_automated=False)
            for one in found
            if one.star_count >= stars and official in (None, one.is_official)
        ]

    async def _top(
        self, name: str, credentials: Credentials | None, *, insecure: bool = False
    ) -> tuple[Repository, Fetched, Manifest | Index]:
        reference = parse(name).tagged()
        source = self._registries.repository(reference, credentials, insecure=insecure)
        try:
            top = await source.resolve(reference.identifier)
        except NotFound as error:  # the registry's own words, as Docker passes them on here
            raise NotFound(str(error.__cause__ or error)) from error
        return source, top, manifests.parse(top.data, top.descriptor.media_type)


async def _platform(source: Repository, found: Manifest) -> Platform | None:
    """What its config says it is for; None for what is no image."""
    if found.config.media_type not in CONFIGS or found.config.size > LARGEST:
        return None
    data = b""
    async for chunk in source.blob(found.config):
        data += chunk
        if len(data) > LARGEST:
            raise InvalidParameter(f"image config is longer than {LARGEST} bytes")
    config: ImageConfig = parse_config(data)
    return Platform(architecture=config.architecture, os=config.os, variant=config.variant or None)


def _told(reference: str, descriptor: Descriptor, data: bytes) -> Told:
    return Told(reference, descriptor, base64.b64encode(data).decode())


def _stars(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError:
        raise InvalidParameter(
            f"invalid filter 'stars={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
        ) from None
