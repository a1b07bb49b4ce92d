"""Volumes as the Engine API spells them. Pure.

Engine API 1.51: Volume, VolumeCreateOptions, VolumeListResponse.
"""

from typing import Any

from msgspec import UNSET, UnsetType

from skiff.docker.wire import Wire


class UsageData(Wire, frozen=True):
    """size: bytes, -1 unknown; ref_count: containers that use it, -1 unknown."""

    ref_count: int = -1
    size: int = -1


class Volume(Wire, frozen=True):
    """A volume as inspect shows it. created_at: RFC 3339."""

    created_at: str = ""
    driver: str = "local"
    labels: dict[str, str] | None = None
    mountpoint: str = ""
    name: str = ""
    options: dict[str, str] | None = None
    scope: str = "local"
    status: dict[str, Any] | UnsetType = UNSET
    usage_data: UsageData | UnsetType = UNSET


class VolumeCreate(Wire, frozen=True):
    """Body of POST /volumes/create. An empty name: one is made. cluster_volume_spec: of swarm's volumes."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


class VolumeList(Wire, frozen=True):
    volumes: tuple[Volume, ...] = ()
    warnings: tuple[str, ...] | None = None


class VolumesPruneReport(Wire, frozen=True):
    """space_reclaimed: bytes."""

    volumes_deleted: tuple[str, ...] | None = None
    space_reclaimed: int = 0
