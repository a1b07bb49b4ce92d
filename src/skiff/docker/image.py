"""Images as the Engine API spells them. Pure.

Engine API 1.51: ImageSummary, ImageInspect, ImageDeleteResponseItem, HistoryResponseItem.
"""

from typing import Any

from msgspec import UNSET, UnsetType, field

from skiff.docker.container import ContainerConfig
from skiff.docker.wire import Wire
from skiff.oci.manifest import Descriptor
from skiff.oci.platform import Platform


class ImageSummary(Wire, frozen=True):
    """A row of GET /images/json. created: unix seconds; -1 where a figure was not asked for."""

    containers: int = -1
    created: int = 0
    id: str = ""
    labels: dict[str, str] | None = None
    parent_id: str = ""
    repo_digests: tuple[str, ...] | None = ()
    repo_tags: tuple[str, ...] | None = ()
    shared_size: int = -1
    size: int = 0
    virtual_size: int | UnsetType = UNSET  # before API 1.44


class GraphDriverData(Wire, frozen=True):
    """Data: directories of the overlay, as tools read them."""

    data: dict[str, str] | None = None
    name: str = ""


class RootFS(Wire, frozen=True):
    type: str = "layers"
    layers: tuple[str, ...] | UnsetType = UNSET


class ImageMetadata(Wire, frozen=True):
    """last_tag_time: RFC 3339."""

    last_tag_time: str = "0001-01-01T00:00:00Z"


class ImageInspect(Wire, frozen=True):
    """GET /images/{name}/json. created: RFC 3339; size in bytes, all layers."""

    id: str = ""
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    parent: str = ""
    comment: str = ""
    created: str | UnsetType = UNSET
    container_config: ContainerConfig | UnsetType = UNSET  # before API 1.45
    docker_version: str = ""
    author: str = ""
    architecture: str = ""
    variant: str | UnsetType = UNSET
    os: str = ""
    os_version: str | UnsetType = UNSET
    size: int = 0
    virtual_size: int | UnsetType = UNSET  # before API 1.44
    graph_driver: GraphDriverData = GraphDriverData()
    root_fs: RootFS = field(name="RootFS", default=RootFS())
    metadata: ImageMetadata = ImageMetadata()
    config: ContainerConfig | dict[str, Any] | None = None
    referrers: tuple[Descriptor, ...] | UnsetType = UNSET  # ours: what says something about its manifest


class DistributionInspect(Wire, frozen=True):
    """GET /distribution/{name}/json."""

    descriptor: Descriptor
    platforms: tuple[Platform, ...]


class DeleteResponse(Wire, frozen=True):
    """One thing that DELETE /images/{name} did."""

    untagged: str | UnsetType = UNSET
    deleted: str | UnsetType = UNSET


class HistoryItem(Wire, frozen=True):
    """One row of GET /images/{name}/history. created: unix seconds. id: `<missing>` where none is known."""

    comment: str = ""
    created: int = 0
    created_by: str = ""
    id: str = "<missing>"
    size: int = 0
    tags: tuple[str, ...] | None = None


class ImagesPruneReport(Wire, frozen=True):
    """space_reclaimed: bytes."""

    images_deleted: tuple[DeleteResponse, ...] | None = None
    space_reclaimed: int = 0
