"""What `system df` shows: a row per kind of thing, or every thing in turn. Pure."""

from __future__ import annotations

from skiff.cli import container_list, human, image_list
from skiff.cli.table import Listing, aligned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

ACTIVE = ("running", "paused", "restarting")
LISTING = Listing(
    "*formatter.diskUsageImagesContext",  # each row has its own; a mistake meets the first
    {
        "Type": ("TYPE", lambda row: row["Type"]),
        "TotalCount": ("TOTAL", lambda row: str(row["TotalCount"])),
        "Active": ("ACTIVE", lambda row: str(row["Active"])),
        "Size": ("SIZE", lambda row: human.size(row["Size"])),
        "Reclaimable": ("RECLAIMABLE", lambda row: reclaimable(row)),
    },
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    quiet="Type",
)


def reclaimable(row: Json) -> str:
    text = human.size(row["Reclaimable"])
    if row["Size"] > 0 and row["Type"] != "Build Cache":
        return f"{text} ({row['Reclaimable'] * 100 // row['Size']}%)"
    return text


def summary(used: Json) -> list[Json]:
    """One row for images, containers, volumes and the build cache. used: Engine API, SystemDataUsage."""
    images, containers = used.get("Images") or [], used.get("Containers") or []
    volumes, cache = used.get("Volumes") or [], used.get("BuildCache") or []
    layers = used.get("LayersSize") or 0
    held = sum(
        image["Size"] - image["SharedSize"]
        for image in images
        if image["Containers"] != 0 and image["Size"] != -1 and image["SharedSize"] != -1
    )
    written = sum(container.get("SizeRw") or 0 for container in containers)
    idle = sum(c.get("SizeRw") or 0 for c in containers if c["State"] not in ACTIVE)
    sized = [volume["UsageData"] for volume in volumes if volume["UsageData"]["Size"] != -1]
    own = [entry for entry in cache if not entry["Shared"]]
    trash = used.get("Trash")
    return [
        _row("Images", len(images), sum(i["Containers"] > 0 for i in images), layers, layers - held),
        _row("Containers", len(containers), sum(c["State"] in ACTIVE for c in containers), written, idle),
        _row(
            "Local Volumes",
            len(volumes),
            sum(volume["UsageData"]["RefCount"] > 0 for volume in volumes),
            sum(usage["Size"] for usage in sized),
            sum(usage["Size"] for usage in sized if usage["RefCount"] == 0),
        ),
        _row(
            "Build Cache",
            len(cache),
            sum(bool(entry["InUse"]) for entry in cache),
            sum(entry["Size"] for entry in own),
            sum(entry["Size"] for entry in own if not entry["InUse"]),
        ),
        *([_row("Trash", trash["Count"], 0, trash["Size"], trash["Size"])] if trash else []),
    ]


def _row(kind: str, total: int, active: int, size: int, free: int) -> Json:
    return {"Type": kind, "TotalCount": total, "Active": active, "Size": size, "Reclaimable": free}


def verbose(used: Json, now: float) -> str:
    """Every image, container, volume and build cache entry. now: Unix seconds."""
    named = [_named(image) for image in used.get("Images") or []]
    images = _table(
        image_list.listing(truncate=True, digests=False, now=now),
        ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"),
        named,
    )
    containers = _table(
        container_list.listing(truncate=True, size=False, now=now),
        ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"),
        [container | {"SizeRootFs": 0} for container in used.get("Containers") or []],
    )
    rows = [["VOLUME NAME", "LINKS", "SIZE"]]
    rows += [
        [v["Name"], str(v["UsageData"]["RefCount"]), human.size(v["UsageData"]["Size"])]
        for v in used.get("Volumes") or []
    ]
    cache = used.get("BuildCache") or []
    size = human.size(sum(entry["Size"] for entry in cache if not entry["Shared"]))
    entries = [["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]]
    entries += [_cache(entry, now) for entry in cache]
    return (
        f"Images space usage:\n\n{images}\nContainers space usage:\n\n{containers}\n"
        f"Local Volumes space usage:\n\n{aligned(rows)}\nBuild cache usage: {size}\n\n{aligned(entries)}"
    )


def _named(image: Json) -> Json:
    names = image.get("RepoTags") or ()
    repository, _, tag = names[0].rpartition(":") if names else ("<none>", "", "<none>")
    return image | {"Repository": repository, "Tag": tag, "Digest": "<none>"}


def _table(listing: Listing, columns: tuple[str, ...], items: list[Json]) -> str:
    chosen = [listing.fields[name] for name in columns]
    return aligned([[title for title, _ in chosen], *([act(item) for _, act in chosen] for item in items)])


def _cache(entry: Json, now: float) -> list[str]:
    def ago(text: str | None) -> str:
        return human.ago(human.instant(text)[0], now) if text else ""

    shared = "true" if entry["Shared"] else "false"
    usage = str(entry["UsageCount"])
    size = human.size(entry["Size"])
    id = human.short_id(entry["ID"]) + ("*" if entry["InUse"] else "")
    return [id, entry["Type"], size, ago(entry.get("CreatedAt")), ago(entry.get("LastUsedAt")), usage, shared]
