"""build --check: what is questionable in a Dockerfile, shown as `docker build --check` shows it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

_AROUND = 2  # lines before and after


def shown(found: Json, filename: str) -> str:
    """found: what the engine says: Warnings, Source."""
    warnings = found["Warnings"] or []
    if not warnings:
        return "Check complete, no warnings found.\n"
    if len(warnings) == 1:
        parts = ["Check complete, 1 warning has been found!\n"]
    else:
        parts = [f"Check complete, {len(warnings)} warnings have been found!\n"]
    lines = found["Source"].split("\n")
    for warning in warnings:
        parts.append(f"\nWARNING: {warning['RuleName']} - {warning['Url']}\n{warning['Detail']}\n")
        if warning["Line"]:
            parts.append(_excerpt(lines, warning["Line"], filename))
    return "".join(parts)


def _excerpt(lines: list[str], line: int, filename: str) -> str:
    """The line with its neighbours, as many of them as there are at the edges, too."""
    first, last = line - _AROUND, line + _AROUND
    if first < 1:
        first, last = 1, min(last, len(lines))
    last = min(last, len(lines))
    rule = "-" * 20 + "\n"
    shown = [
        f"{number:4} | {'>>>' if number == line else '   '} {lines[number - 1]}\n"
        for number in range(first, last + 1)
    ]
    return f"{filename}:{line}\n{rule}{''.join(shown)}{rule}"


def report(found: Json, filename: str) -> int:
    """Prints it; the exit code."""
    sys.stdout.write(shown(found, filename))
    if found["Error"]:
        sys.stdout.flush()
        print(f"ERROR: {found['Error']}", file=sys.stderr)
    return 1 if found["Warnings"] or found["Error"] else 0
