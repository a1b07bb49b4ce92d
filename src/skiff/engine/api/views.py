"""Replies shaped by the version that the client speaks. Pure.

The nouns answer in the newest shape; here fields that later versions dropped come back for older clients.
"""

from msgspec.structs import replace

from skiff.docker.container import ContainerConfig
from skiff.docker.image import ImageInspect, ImageSummary
from skiff.engine.api.versions import Version


def image_summary(image: ImageSummary, version: Version) -> ImageSummary:
    """VirtualSize went with API 1.44."""
    return image if version >= (1, 44) else replace(image, virtual_size=image.size)


def image(image: ImageInspect, version: Version, agent: str = "") -> ImageInspect:
    """VirtualSize went with API 1.44, Container and ContainerConfig with 1.45.

    agent: User-Agent. Compose v1 speaks the newest version, but cannot recreate without ContainerConfig.
    """
    if version < (1, 45) or agent.startswith("docker-compose/1."):
        image = replace(image, container="", container_config=ContainerConfig())
    if version < (1, 44):
        image = replace(image, virtual_size=image.size)
    return image
