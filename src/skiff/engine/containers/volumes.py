"""What containers ask of volumes: a protocol. engine/volumes implements it and knows no container."""

from collections.abc import Mapping
from typing import Protocol

from skiff.docker.volume import Volume


class Volumes(Protocol):
    async def ensure(
        self,
        name: str,
        *,
        driver: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """The volume of that name, made if there is none; an empty name makes an anonymous one (64 hex).

        InvalidParameter for an impossible name or driver; Conflict if it exists with another driver.
        """
        ...

    async def open(self, name: str, user: str) -> str:
        """The directory to bind, ready for use. user: the container's id; again changes nothing. NotFound."""
        ...

    async def close(self, name: str, user: str) -> None:
        """That container has ended. It is no error if it was not open."""
        ...

    async def fill(self, name: str, source: str) -> None:
        """First use: an empty volume receives what the image has there (a directory of the host)."""
        ...

    async def remove(self, name: str, *, force: bool = False, lost: bool = False) -> None:
        """NotFound; Conflict while a container has it. lost: for good, whatever the grace of removals is."""
        ...
