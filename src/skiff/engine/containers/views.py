"""Records as the Engine API shows them: inspect, and the list with its filters."""

from msgspec import Raw

from skiff.docker.container_view import ContainerInspect
from skiff.docker.filters import Filters

LIST_FILTERS = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
]


class Views:
    async def inspect(self, text: str, *, size: bool = False) -> ContainerInspect:
        """NotFound. size: count the bytes too (slow)."""
        raise NotImplementedError

    async def list(
        self, filters: Filters, *, all: bool = False, limit: int = 0, size: bool = False
    ) -> list[Raw]:
        """Encoded ContainerSummary objects, newest first. filters: parsed with LIST_FILTERS."""
        raise NotImplementedError
