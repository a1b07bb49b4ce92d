"""skiff images. On a fast path: imports next to nothing."""

from __future__ import annotations

import sys
import time

from skiff.cli import human
from skiff.cli.filters import FILTER, KINDS, wire
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

NONE = "<none>"
UNKNOWN = "N/A"


def images(session: Session, asked: Parsed) -> int:
    filters = wire(asked["filter"])
    if asked.args:
        filters.setdefault("reference", []).append(asked.args[0])
    if asked["tree"]:
        return _tree(session, asked, filters)
    form = asked["format"] or session.config().format("images")
    found = session.engine().images(all=asked["all"], filters=filters)
    shown = listing(truncate=not asked["no-trunc"], digests=asked["digests"], now=time.time())
    items = rows(found, digests=asked["digests"] or ".Digest" in form)
    sys.stdout.write(render(shown, items, form=form, quiet=asked["quiet"]))
    return 0


def _tree(session: Session, asked: Parsed, filters: dict[str, list[str]]) -> int:
    """Raises InvalidParameter."""
    from skiff.cli import image_tree

    for name in ("quiet", "no-trunc", "digests", "format"):
        if name in asked.changed:
            raise InvalidParameter(f"--{name} is not yet supported with --tree")
    image_tree.show(session.engine().images(all=asked["all"], filters=filters))
    return 0


def rows(found: Iterable[Json], *, digests: bool) -> Iterator[Json]:
    """One row per name of an image: its summary with Repository, Tag and Digest."""
    for image in found:
        by_repository: dict[str, list[str]] = {}
        for name in image.get("RepoTags") or ():
            if name != f"{NONE}:{NONE}":
                repository, _, tag = name.rpartition(":")
                by_repository.setdefault(repository, []).append(tag)
        hashes: dict[str, list[str]] = {}
        for name in image.get("RepoDigests") or ():
            repository, _, digest = name.partition("@")
            if repository != NONE:
                hashes.setdefault(repository, []).append(digest)
        if not by_repository and not hashes:
            yield image | {"Repository": NONE, "Tag": NONE, "Digest": NONE}
        for repository, tags in by_repository.items():
            known = hashes.pop(repository, None) or [NONE]
            for digest in known if digests else [NONE]:
                for tag in tags:
                    yield image | {"Repository": repository, "Tag": tag, "Digest": digest}
        for repository, known in hashes.items():
            for digest in known if digests else known[:1]:
                yield image | {"Repository": repository, "Tag": NONE, "Digest": digest if digests else NONE}


def listing(*, truncate: bool, digests: bool, now: float) -> Listing:
    """Of rows(…)."""
    fields = {
        "ID": ("IMAGE ID", lambda i: human.short_id(i["Id"]) if truncate else i["Id"]),
        "Repository": ("REPOSITORY", lambda i: i["Repository"]),
        "Tag": ("TAG", lambda i: i["Tag"]),
        "Digest": ("DIGEST", lambda i: i["Digest"]),
        "CreatedSince": ("CREATED", lambda i: human.ago(i["Created"], now) if i["Created"] else UNKNOWN),
        "CreatedAt": ("CREATED AT", lambda i: human.local(i["Created"])),
        "Size": ("SIZE", lambda i: human.size(i["Size"], 3)),
        "Containers": ("CONTAINERS", lambda i: _known(i.get("Containers", -1))),
        "VirtualSize": ("SIZE", lambda i: human.size(i["Size"])),
        "SharedSize": ("SHARED SIZE", lambda i: _size(i.get("SharedSize", -1))),
        "UniqueSize": (
            "UNIQUE SIZE",
            lambda i: _size(i["Size"] - i["SharedSize"] if i.get("SharedSize", -1) != -1 else -1),
        ),
    }
    middle = ("Digest",) if digests else ()
    raw = (
        ("repository", "Repository"),
        ("tag", "Tag"),
        *((("digest", "Digest"),) if digests else ()),
        ("image_id", "ID"),
        ("created_at", "CreatedAt"),
        ("virtual_size", "Size"),
    )
    columns = ("Repository", "Tag", *middle, "ID", "CreatedSince", "Size")
    return Listing("*formatter.imageContext", fields, columns, raw=raw)


def _known(count: int) -> str:
    return UNKNOWN if count == -1 else str(count)


def _size(count: int) -> str:
    return UNKNOWN if count == -1 else human.size(count)


COMMANDS = {
    "images": Command(
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        images,
        (
            ("all", "a", "bool", False, "Show all images (default hides intermediate images)"),
            ("digests", "", "bool", False, "Show digests"),
            FILTER,
            FORMAT,
            ("no-trunc", "", "bool", False, "Don't truncate output"),
            ("quiet", "q", "bool", False, "Only show image IDs"),
            ("tree", "", "bool", False, "List multi-platform images as a tree (EXPERIMENTAL)"),
        ),
        most=1,
        kinds=KINDS,
        aliases=("image ls", "image list", "images"),
    )
}
