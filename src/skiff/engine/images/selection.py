"""Which images filters select, for lists and for prunes."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from skiff.docker import glob
from skiff.docker.filters import Filters
from skiff.docker.units import parse_time
from skiff.engine.images import views
from skiff.engine.images.names import ImageRow, Names
from skiff.errors import InvalidParameter, NotFound
from skiff.oci.digest import ImageID
from skiff.oci.image import ImageConfig
from skiff.oci.image import parse as parse_config


class Selection:
    """config: of an image that is here; NotFound when it was lost."""

    def __init__(self, names: Names, config: Callable[[ImageID], ImageConfig]) -> None:
        self._names = names
        self._config = config

    def select(self, filters: Filters, *, all: bool) -> Sequence[tuple[ImageRow, ImageConfig]]:
        """Those that all filters but `reference` select; all: intermediate ones too. NotFound for an image
        that a filter names, InvalidParameter.
        """
        before, since = self._bounds(filters)
        dangling = filters.boolean("dangling")
        parents = {row.parent for row in self._names.images() if row.parent}
        found = []
        for row in self._names.images():
            try:
                config = self._config(row.id)
            except NotFound:  # its config was lost: it can only be removed
                config = parse_config(b'{"rootfs":{"type":"layers"}}')
            nameless = not self._names.references(row.id)
            if nameless and row.id in parents and not all:
                continue
            if dangling is not None and dangling != (not self._names.tags(row.id)):
                continue
            made = _made(config)
            if (before and made >= before) or (since and made <= since):
                continue
            if not filters.labels(config.run.labels):
                continue
            found.append((row, config))
        return found

    def _bounds(self, filters: Filters) -> tuple[datetime | None, datetime | None]:
        """Made before, made after: from `before` and `since` (images) and `until` (instants)."""
        befores = [self._instant(name) for name in filters.values("before")]
        befores += [_until(text) for text in filters.values("until")]
        sinces = [self._instant(name) for name in filters.values("since")]
        return (min(befores) if befores else None, max(sinces) if sinces else None)

    def _instant(self, name: str) -> datetime:
        id, _ = self._names.find(name)
        return _made(self._config(id))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """The filter `reference`: a shell pattern over the whole name or over its repository; `*` stops at a
    slash. InvalidParameter.
    """
    repository = name.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    try:
        return any(glob.matches(pattern, text) for pattern in patterns for text in (name, repository))
    except InvalidParameter:
        raise InvalidParameter("syntax error in pattern") from None


def _made(config: ImageConfig) -> datetime:
    return views.created(config) or datetime.fromtimestamp(0, UTC)


def _until(text: str) -> datetime:
    """An instant: RFC 3339, unix seconds, or a span back from now such as 24h. InvalidParameter."""
    return datetime.fromtimestamp(parse_time(text, time.time_ns()) / 1e9, UTC)
