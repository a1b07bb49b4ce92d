"""What the image noun hands out: an image ready to be run, and who uses it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from skiff.oci.digest import ChainID, ImageID
from skiff.oci.image import ImageConfig


class Image(Struct, frozen=True, kw_only=True):
    """An image found by name.

    chain: the committed snapshot to prepare a container on; None for an image without layers.
    name: the familiar reference it was found by (`busybox:latest`), or its id when found by id.
    """

    id: ImageID
    config: ImageConfig
    chain: ChainID | None
    name: str


class ImageUse(Struct, frozen=True):
    """A container made from an image. reference: the image as its creator named it."""

    container: str
    is_running: bool
    reference: str


InUse = Callable[[ImageID], Sequence[ImageUse]]


class Publish(Protocol):
    """Tells the world what happened to an image: (`pull`, `busybox:latest`, {"name": "busybox"})."""

    def __call__(self, action: str, actor: str, attributes: Mapping[str, str]) -> None: ...
