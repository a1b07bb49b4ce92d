"""skiff images --tree: each image once, with all its names, what it takes on disk, and whether it is used."""

from __future__ import annotations

import sys

from skiff.cli import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Json = dict[str, Any]

EXPERIMENTAL = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
UNTAGGED = "<untagged>"
HEADER = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
LEGEND = "Info ->  U In Use "
GAP = 3


def show(images: Iterable[Json]) -> None:
    """images: as the list of the Engine API has them."""
    print(EXPERIMENTAL, file=sys.stderr, flush=True)
    sys.stdout.write(tree(images))


def tree(images: Iterable[Json]) -> str:
    """The whole text. The engine keeps one platform of an image: there is nothing below a name."""
    rows = [HEADER]
    for image in images:
        names = sorted(image.get("RepoTags") or [UNTAGGED])
        used = "U" if image.get("Containers", 0) > 0 else ""
        rows += [(name, "", "", "", "") for name in names[:-1]]
        size = human.size(image["Size"], 3)
        rows.append((names[-1], human.short_id(image["Id"]), size, "0B", f"  {used}" if used else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if row is not HEADER and column in (2, 3) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * GAP).join(cells).rstrip())
    width = sum(widths) + GAP * (len(widths) - 1)
    return "\n".join([LEGEND.rjust(width), "", *lines]) + "\n"
