"""What `docker system df` shows: what images, containers and volumes take on disk.

It reads across the nouns and changes nothing. Slow by nature: asked rarely, it walks directories.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Raw

from skiff.docker.volume import Volume
from skiff.errors import InvalidParameter

TYPES: Final = ("container", "image", "volume", "build-cache")


class Usage:
    """Each argument tells of one noun. layers: bytes of all image layers together."""

    def __init__(
        self,
        *,
        layers: Callable[[], Awaitable[int]],
        images: Callable[[], Awaitable[Sequence[Any]]],
        containers: Callable[[], Awaitable[Sequence[Raw]]],
        volumes: Callable[[], Sequence[Volume]],
        builds: Callable[[], Sequence[Any]],
        trash: Callable[[], Mapping[str, int]],
    ) -> None:
        """trash: what was removed and can come back; told only when there is some."""
        self._trash = trash
        self._layers = layers
        self._images = images
        self._containers = containers
        self._volumes = volumes
        self._builds = builds

    async def measure(self, types: Sequence[str] = ()) -> dict[str, Any]:
        """Engine API, SystemDataUsage. types: which of TYPES; empty for all."""
        for asked in types:
            if asked not in TYPES:
                raise InvalidParameter(f"unknown object type: {asked}")
        wanted = set(types or TYPES)
        answer: dict[str, Any] = {}
        if "image" in wanted:
            answer["LayersSize"] = await self._layers()
            answer["Images"] = await self._images()
        if "container" in wanted:
            answer["Containers"] = await self._containers()
        if "volume" in wanted:
            answer["Volumes"] = await asyncio.to_thread(self._volumes)
        if "build-cache" in wanted:
            answer["BuildCache"] = self._builds()
        answer = {key: answer.get(key, None if key != "LayersSize" else 0) for key in _ORDER}
        kept = self._trash()
        if kept["Count"] and not types:
            answer["Trash"] = kept
        return answer


_ORDER: Final = ("LayersSize", "Images", "Containers", "Volumes", "BuildCache")
