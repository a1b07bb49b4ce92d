"""Replies shaped by the version that the client speaks. Pure.

The nouns answer in the newest shape; here fields that later versions dropped come back for older clients.
"""

from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import replace

from skiff.docker.container import ContainerConfig
from skiff.docker.image import ImageInspect, ImageSummary
from skiff.engine.api.versions import Version

OF_CONTAINERS: Final = frozenset(
    (
        "AttachStderr", "AttachStdin", "AttachStdout", "Domainname", "Hostname", "Image", "MacAddress",
        "NetworkDisabled", "OpenStdin", "StdinOnce", "StopTimeout", "Tty",
    )
)  # fmt: skip


def image_summary(image: ImageSummary, version: Version) -> ImageSummary:
    """VirtualSize went with API 1.44; containers are counted since 1.51."""
    if version < (1, 51):
        image = replace(image, containers=-1)
    return image if version >= (1, 44) else replace(image, virtual_size=image.size)


def image(image: ImageInspect, version: Version, agent: str = "") -> ImageInspect:
    """VirtualSize went with API 1.44, ContainerConfig with 1.45.

    agent: User-Agent. Compose v1 speaks the newest version, but cannot recreate without ContainerConfig.
    """
    if version < (1, 45) or agent.startswith("docker-compose/1."):
        image = replace(image, container_config=ContainerConfig())
    if version < (1, 44):
        image = replace(image, virtual_size=image.size)
    if version >= (1, 50) and isinstance(image.config, ContainerConfig):
        image = replace(image, config=_of_an_image(image.config))
    return image


def _of_an_image(config: ContainerConfig) -> dict[str, Any]:
    """Without what only a container has: images do not show that since API 1.50."""
    fields: dict[str, Any] = to_builtins(config)
    return {name: value for name, value in sorted(fields.items()) if name not in OF_CONTAINERS}
