"""skiff top without a container: what all of them use, live, the busiest first.

keys: c processor, m memory, p processes, n name — what to sort by; q or Ctrl-C leaves. In a pipe one reading
is printed and that is all.
"""

from __future__ import annotations

import posix
import select
import sys
import time

from skiff.cli import human
from skiff.cli.stats import readings, row
from skiff.cli.terminal import RawMode, is_terminal, window_size
from skiff.client.connection import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from skiff.cli.session import Session
    from skiff.client.engine import EngineClient

    Json = dict[str, Any]
    Row = dict[str, Any]

INTERVAL = 1.0
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
REVERSE, PLAIN = "\x1b[7m", "\x1b[0m"
# key → (what to sort by, its word, the largest first)
ORDERS = {
    "c": ("cpu", "processor", True),
    "m": ("used", "memory", True),
    "p": ("tasks", "processes", True),
    "n": ("name", "name", False),
}
LEAVING = ("q", "Q", "\x03", "\x04", "\x1b")
WIDEST_NAME = 32


def live(session: Session) -> int:
    engine = session.engine()
    if not (is_terminal(0) and is_terminal(1)):
        before = readings(engine, [], everything=False)
        time.sleep(INTERVAL)
        sys.stdout.writelines(f"{line}\n" for line in table(_rows(engine, before)[0], "c"))
        return 0
    coloured = not session.env("NO_COLOR")
    sys.stdout.write(ENTER)
    sys.stdout.flush()
    try:
        with RawMode(0):
            _watch(engine, coloured=coloured)
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
    return 0


def _watch(engine: EngineClient, *, coloured: bool) -> None:
    order, before = "c", readings(engine, [], everything=False)
    rows: list[Row] = []
    due = time.monotonic()
    while True:
        if time.monotonic() >= due:
            rows, before = _rows(engine, before)
            due = time.monotonic() + INTERVAL
        lines, columns = window_size(1) or (24, 80)
        shown = screen(rows, order, lines=lines, columns=columns, coloured=coloured)
        sys.stdout.write(HOME + "".join(f"{line}{CLEAR_LINE}\r\n" for line in shown[:-1]))
        sys.stdout.write(f"{shown[-1]}{CLEAR_LINE}{CLEAR_BELOW}")
        sys.stdout.flush()
        if not select.select([0], [], [], max(due - time.monotonic(), 0))[0]:
            continue
        keys = posix.read(0, 64).decode("ascii", "ignore")
        if not keys or any(key in LEAVING for key in keys):
            return
        order = next((key for key in reversed(keys) if key in ORDERS), order)


def _rows(engine: EngineClient, before: dict[str, Json]) -> tuple[list[Row], dict[str, Json]]:
    """One row a running container, and the readings that the next ones are compared with."""
    abouts = {item["Id"]: item for item in engine.containers()}
    now: dict[str, Json] = {}
    for id in abouts:
        try:
            now[id] = next(iter(engine.container_stats(id, one_shot=True)))
        except (EngineError, StopIteration):
            continue  # it ended this instant
    rows = []
    for id, figures in now.items():
        found = row(id, figures, before.get(id))
        rows.append({**found, "image": abouts[id]["Image"], "status": abouts[id]["Status"]})
    return rows, now


def screen(rows: list[Row], order: str, *, lines: int, columns: int, coloured: bool) -> list[str]:
    """Exactly what fits. The head tells the sums, the last line the keys."""
    busy, used = sum(found["cpu"] for found in rows), sum(found["used"] for found in rows)
    count = f"{len(rows)} container{'' if len(rows) == 1 else 's'}"
    head = f"skiff top — {count}, processor {busy:.0f}%, memory {human.binary_size(used)}"
    keys = "c processor  m memory  p processes  n name   q leave"
    body = table(rows, order)
    room = max(lines - 3, 1)
    shown = [line[:columns] for line in body[: room + 1]]
    if coloured:
        shown[0] = f"{REVERSE}{body[0][:columns]:<{columns}}{PLAIN}"
    more = len(body) - 1 - room
    foot = f"{keys}   ({more} more below)" if more > 0 else keys
    return [f"{head}, by {ORDERS[order][1]}"[:columns], *shown, foot[:columns]][: max(lines, 2)]


def table(rows: Iterable[Row], order: str) -> list[str]:
    """The header and a line each, in columns."""
    key, _, largest_first = ORDERS[order]
    ordered = sorted(rows, key=lambda found: found["name"])
    ordered.sort(key=lambda found: found[key], reverse=largest_first)
    cells = [("NAME", "CPU %", "MEM", "MEM %", "NET IN / OUT", "READ / WRITTEN", "PIDS", "STATUS", "IMAGE")]
    cells += [
        (
            human.ellipsis(found["name"], WIDEST_NAME),
            f"{found['cpu']:.1f}",
            human.binary_size(found["used"], 3),
            f"{found['share']:.1f}",
            " / ".join(human.size(count, 3) for count in found["network"]),
            " / ".join(human.size(count, 3) for count in found["blocks"]),
            str(found["tasks"]),
            found["status"],
            found["image"],
        )
        for found in ordered
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if 0 < at < 7 else f"{cell:<{width}}"
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
