"""--filter NAME=VALUE, and the question a destructive command asks. Pure but for that question."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from skiff.cli.session import Session

PRUNE_FILTER = ("filter", "", "filter", (), 'Provide filter values (e.g. "until=<timestamp>")')
DRY_RUN = ("dry-run", "", "bool", False, "Only tell what would be removed")
FORCE = ("force", "f", "bool", False, "Do not prompt for confirmation")
FILTER = ("filter", "f", "filter", (), "Filter output based on conditions provided")


def parse_filter(text: str) -> tuple[str, str]:
    """NAME=VALUE → (name, value). Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    return name.strip().lower(), value.strip()


KINDS = {"filter": parse_filter}


def wire(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """As the engine reads them: {name: [value, …]}."""
    filters: dict[str, list[str]] = {}
    for name, value in pairs:
        filters.setdefault(name, []).append(value)
    return filters


def agreed(session: Session, warning: str) -> bool:
    """Ask on stdout, read one line; anything but y or yes is a no."""
    sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
