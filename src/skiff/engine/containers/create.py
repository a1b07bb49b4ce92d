"""From a wish and an image to a container: record, snapshot, volumes, warnings."""

from typing import Protocol

from skiff.docker.container import ContainerCreate, CreateResponse
from skiff.engine.images.record import Image


class ImageSource(Protocol):
    async def resolve(self, name: str) -> Image:
        """NotFound: `No such image: x:latest`."""
        ...


class Creation:
    async def create(self, wish: ContainerCreate, *, name: str = "", platform: str = "") -> CreateResponse:
        """A container that does not run yet. name: empty makes one up.

        NotFound (image), Conflict (name), InvalidParameter. Engine API, ContainerCreate.
        """
        raise NotImplementedError
