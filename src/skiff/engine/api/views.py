"""Replies shaped by the version that the client speaks. Pure.

The nouns answer in the newest shape; here fields that later versions dropped come back for older clients.
"""

from typing import Any, Final

from msgspec import Raw, json, to_builtins
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


def container_summary(row: Raw, version: Version) -> Raw:
    """Annotations are told since API 1.46."""
    if version >= (1, 46) or b'"Annotations"' not in bytes(row):
        return row
    fields = json.decode(row)
    fields["HostConfig"].pop("Annotations", None)
    return Raw(json.encode(fields))


def image_summary(image: ImageSummary, version: Version) -> ImageSummary:
    """VirtualSize went with API 1.44, a word for no name with 1.43; containers are counted since 1.51."""
    if version < (1, 51):
        image = replace(image, containers=-1)
    if version < (1, 43):
        tags, digests = image.repo_tags or None, image.repo_digests or None
        if not tags and not digests:
            tags, digests = ("<none>:<none>",), ("<none>@<none>",)
        image = replace(image, repo_tags=tags, repo_digests=digests)
    return image if version >= (1, 44) else replace(image, virtual_size=image.size)


def usage(usage: dict[str, Any], version: Version) -> dict[str, Any]:
    """Images had a VirtualSize before API 1.44."""
    images = usage["Images"]
    if version >= (1, 44) or not images:
        return usage
    return usage | {"Images": [replace(image, virtual_size=image.size) for image in images]}


def info(info: dict[str, Any], version: Version) -> dict[str, Any]:
    """What is always the same by now, and therefore went from the answer."""
    if version >= (1, 50):
        return info
    info = info | {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    if version >= (1, 49):
        return info
    info.pop("FirewallBackend")
    if version < (1, 48):
        removed = {
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
        }
        info["RegistryConfig"] = removed | info["RegistryConfig"]
    if version < (1, 42):
        info["KernelMemory"] = info["KernelMemoryTCP"]
    return info


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
