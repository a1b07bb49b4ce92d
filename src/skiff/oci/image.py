"""Image configs: what an image says about running it and about its layers. Pure.

The id of an image is the digest of its config's exact bytes, so a config is stored as it came and parsed when
needed. OCI image-spec 1.1, config.md; Docker's additions beside.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from skiff.errors import InvalidParameter
from skiff.oci.digest import ChainID, DiffID
from skiff.oci.platform import Platform, normalise

LARGEST = 8 << 20  # bytes of a config we agree to read


class Healthcheck(Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """test: ["NONE"], ["CMD", …] or ["CMD-SHELL", line]. Spans in nanoseconds; 0 inherits."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class RunConfig(Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """How a container of this image runs unless it is told otherwise.

    exposed_ports and volumes are sets, spelled as in JSON: {"80/tcp": {}}. entrypoint: None and () differ.
    """

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    args_escaped: bool = False


class RootFS(Struct, frozen=True):
    """The layers, the lowest first, by the digests of their uncompressed tars."""

    type: str = "layers"
    diff_ids: tuple[DiffID, ...] | None = None


class History(Struct, frozen=True, omit_defaults=True):
    """How one step was made. created: RFC 3339. empty_layer: it has no entry in rootfs."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class ImageConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config document. created: RFC 3339; docker_version and parent: Docker's own.

    build_cache: skiff's own: what a build may take over from this very image, but not from those made of it.
    """

    architecture: str = ""
    os: str = ""
    rootfs: RootFS
    variant: str | None = None
    os_version: str | None = field(name="os.version", default=None)
    os_features: tuple[str, ...] | None = field(name="os.features", default=None)
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    config: RunConfig | None = None
    history: tuple[History, ...] | None = None
    docker_version: str | None = None
    parent: str | None = None
    build_cache: str | None = field(name="skiff.build-cache.v1", default=None)

    @property
    def run(self) -> RunConfig:
        """The run section; the empty one when the image has none."""
        return self.config or RunConfig()

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        return self.rootfs.diff_ids or ()

    @property
    def steps(self) -> tuple[History, ...]:
        """Its history, oldest first."""
        return self.history or ()

    @property
    def platform(self) -> Platform:
        return normalise(
            Platform(architecture=self.architecture, os=self.os or "linux", variant=self.variant)
        )


def parse(data: bytes) -> ImageConfig:
    """The config that data holds. InvalidParameter."""
    if len(data) > LARGEST:
        raise InvalidParameter(f"image config of {len(data)} bytes: expected at most {LARGEST}")
    try:
        config = msgspec.json.decode(data, type=ImageConfig)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid image config: {error}") from error
    if config.rootfs.type not in ("layers", ""):
        raise InvalidParameter(
            f"invalid image config: rootfs of type {config.rootfs.type!r}, expected layers"
        )
    return config


def encode(config: ImageConfig) -> bytes:
    """Its JSON; what is absent is omitted, as the specification asks."""
    fields = msgspec.to_builtins(config)
    fields["rootfs"] = {"type": "layers", "diff_ids": list(config.diff_ids)}
    return msgspec.json.encode(fields)


def chain_ids(diff_ids: Sequence[DiffID]) -> list[ChainID]:
    """The name of each stack diff_ids[:1], diff_ids[:2], … . config.md § Layer ChainID."""
    names: list[ChainID] = []
    for diff_id in diff_ids:
        if not names:
            names.append(ChainID(diff_id))
        else:
            names.append(ChainID("sha256:" + hashlib.sha256(f"{names[-1]} {diff_id}".encode()).hexdigest()))
    return names


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID | None:
    """The name of the whole stack; None for an image without layers."""
    return chain_ids(diff_ids)[-1] if diff_ids else None
