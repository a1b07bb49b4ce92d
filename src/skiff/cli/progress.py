"""The progress an engine reports while it pulls, loads, imports or pushes: lines, or bars on a terminal.

One line per layer id; on a terminal the cursor goes up to a layer's line and comes back.
Elsewhere bars are left out.
"""

from __future__ import annotations

import posix
import sys

from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

    Json = dict[str, Any]

BAR = 50


class Refused(SkiffError):
    """The engine's own sentence, met in the middle of a stream."""


def follow(messages: Iterable[Json], out: TextIO | None = None, *, width: int = 0) -> list[Json]:
    """Show the messages; gives those that carry an "aux". Raises Refused at the first error."""
    out = out or sys.stdout
    lines: dict[str, int] | None = {} if out.isatty() else None
    width = width or (columns(out) if lines is not None else 0)
    extras = []
    for message in messages:
        failure = message.get("errorDetail") or message.get("error")
        if failure:
            raise Refused(refusal(message))
        if "aux" in message:
            extras.append(message)
        elif lines is None:
            out.write(plain(message))
            out.flush()
        else:
            _draw(out, lines, message, width)
    return extras


def refusal(message: Json) -> str:
    """What a message with an error says, and beneath it the detail that it shows a person."""
    told = message.get("errorDetail") or {}
    return f"{told.get('message') or message.get('error')}{told.get('detail', '')}"


def plain(message: Json) -> str:
    """What a pipe or a file gets: "" for a bar."""
    if bar(message.get("progressDetail") or {}, 200):
        return ""
    if message.get("stream"):
        return str(message["stream"])
    head = f"{message['id']}: " if message.get("id") else ""
    return f"{head}{message.get('status', '')}\n"


def _draw(out: TextIO, lines: dict[str, int], message: Json, width: int) -> None:
    id = message.get("id")
    up = 0
    has_bar = "progressDetail" in message or "progress" in message
    if id and has_bar:
        if id not in lines:
            lines[id] = len(lines)
            out.write("\n")
        up = len(lines) - lines[id]
        out.write(f"\x1b[{up}A\x1b[2K\r")
    elif not id or not has_bar:
        lines.clear()  # what follows is below everything drawn so far
    if has_bar and not message.get("stream"):
        shown = bar(message.get("progressDetail") or {}, width)
        head = f"{id}: " if id else ""
        out.write(f"{head}{message.get('status', '')} {shown}\r")
    else:
        out.write(plain(message))
    if up:
        out.write(f"\x1b[{up}B")
    out.flush()


def bar(detail: Json, width: int) -> str:
    """[=====>    ]  1.2MB/3MB; "" when there is nothing to measure."""
    from skiff.cli.human import size

    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0 and total <= 0:
        return ""
    unit = detail.get("units") or ""
    if total <= 0:
        return f"{current} {unit}" if unit else f"{size(current):>8}"
    drawn = ""
    share = min(int(current / total * 100) // 2, BAR)
    if width > 110:
        drawn = "[" + "=" * share + ">" + " " * (BAR - share) + "] "
    if detail.get("hidecounts"):
        return drawn
    if unit:
        return drawn + (f"{current}/{total} {unit}" if current <= total else f"{current} {unit}")
    return drawn + (f"{size(current):>8}/{size(total)}" if current <= total else f"{size(current):>8}")


def columns(out: TextIO) -> int:
    """Of the terminal that it is."""
    try:
        return posix.get_terminal_size(out.fileno()).columns
    except OSError:
        return 200
