"""Image records in the shapes of the Engine API. Pure.

Engine API 1.51: ImageSummary, ImageInspect, HistoryResponseItem.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from skiff.docker.container import ContainerConfig
from skiff.docker.image import (
    GraphDriverData,
    HistoryItem,
    ImageInspect,
    ImageMetadata,
    ImageSummary,
    RootFS,
)
from skiff.docker.wire import convert
from skiff.engine.images.names import ImageRow
from skiff.oci.digest import ImageID
from skiff.oci.image import ImageConfig, RunConfig
from skiff.oci.manifest import Descriptor

_NEVER = "0001-01-01T00:00:00Z"


def created(config: ImageConfig) -> datetime | None:
    """When the image says it was made; None when it does not say, or not clearly."""
    return instant(config.created)


def instant(text: str | None) -> datetime | None:
    """RFC 3339, in UTC. Nanoseconds are cut to microseconds."""
    try:
        moment = msgspec.convert(text, datetime, strict=False) if text else None
    except msgspec.ValidationError:
        return None
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def unix(moment: datetime | None) -> int:
    """Seconds since the epoch; Docker prints the year 1 for what has no date."""
    return int(moment.timestamp()) if moment else -62135596800


def container_config(run: RunConfig) -> ContainerConfig:
    """What the image says of running, as the API's container config says it."""
    return convert(msgspec.to_builtins(run), ContainerConfig)


def summary(
    row: ImageRow,
    config: ImageConfig,
    tags: Sequence[str],
    digests: Sequence[str],
    *,
    shared: int,
    users: int,
) -> ImageSummary:
    return ImageSummary(
        containers=users,
        created=unix(created(config)),
        id=row.id,
        labels=config.run.labels,
        parent_id=row.parent or "",
        repo_digests=tuple(digests),
        repo_tags=tuple(tags),
        shared_size=shared,
        size=row.size,
    )


def inspection(
    row: ImageRow,
    config: ImageConfig,
    tags: Sequence[str],
    digests: Sequence[str],
    graph: GraphDriverData,
    referrers: Sequence[Descriptor] = (),
) -> ImageInspect:
    return ImageInspect(
        id=row.id,
        repo_tags=tuple(tags),
        repo_digests=tuple(digests),
        parent=row.parent or config.parent or "",
        comment=config.comment or (config.steps[-1].comment if config.steps else None) or "",
        created=config.created or msgspec.UNSET,
        docker_version=config.docker_version or "",
        author=config.author or "",
        config=container_config(config.run),
        architecture=config.architecture,
        variant=config.variant or msgspec.UNSET,
        os=config.os,
        os_version=config.os_version or msgspec.UNSET,
        size=row.size,
        graph_driver=graph,
        root_fs=RootFS(type="layers", layers=tuple(config.diff_ids) or msgspec.UNSET),
        metadata=ImageMetadata(last_tag_time=row.tagged.isoformat() if row.tagged else _NEVER),
        referrers=tuple(referrers) or msgspec.UNSET,
    )


def history(
    row: ImageRow, config: ImageConfig, lineage: Sequence[tuple[ImageID, Sequence[str]]]
) -> list[HistoryItem]:
    """The steps, newest first. lineage: the image itself and what it was made of here, with tags; the newest
    steps bear their ids.
    """
    sizes = iter([layer.size for layer in row.layers])
    items = [
        HistoryItem(
            comment=step.comment or "",
            created=unix(instant(step.created)),
            created_by=step.created_by or "",
            size=0 if step.empty_layer else next(sizes, 0),
        )
        for step in config.steps
    ]
    items.reverse()
    for number, (id, tags) in enumerate(lineage[: len(items)]):
        items[number] = msgspec.structs.replace(items[number], id=id, tags=tuple(tags) or None)
    return items
