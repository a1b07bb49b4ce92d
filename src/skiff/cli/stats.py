"""skiff stats: what containers use, once or every second.

Shares of the processor are differences of two readings taken here, a second apart: one connection serves
any number of containers.
"""

from __future__ import annotations

import sys
import time

from skiff.cli import human
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render
from skiff.client.connection import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session
    from skiff.client.engine import EngineClient

    Json = dict[str, Any]
    Row = dict[str, Any]

INTERVAL = 1.0
NOT_FOUND = 404
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
HOME, CLEAR, CLEAR_LINE, CLEAR_BELOW = "\033[H", "\033[2J", "\033[K", "\033[J"


def stats(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    names = list(asked.args)
    for name in names:
        engine.container(name)  # a name that nobody has is an error from the start
    form = asked["format"] or session.config().format("stats")
    shown = listing(truncate=not asked["no-trunc"])
    before = readings(engine, names, everything=asked["all"])
    known = before
    if not asked["no-stream"]:
        sys.stdout.write(CLEAR)
    try:
        while True:
            time.sleep(INTERVAL)
            now = readings(engine, names, everything=asked["all"])
            rows = [row(word, it, before.get(word)) for word, it in now.items()]
            rows += [vanished(word, known[word]) for word in names if word not in now and word in known]
            text = render(shown, rows, form=form)
            if asked["no-stream"]:
                sys.stdout.write(text)
                return 0
            sys.stdout.write(HOME + text.replace("\n", CLEAR_LINE + "\n") + CLEAR_BELOW)
            sys.stdout.flush()
            before = now
            known |= now
    except KeyboardInterrupt:
        print()
        return 130


def readings(engine: EngineClient, names: list[str], *, everything: bool) -> dict[str, Json]:
    """What was asked for → its figures of now. Who vanishes meanwhile is left out."""
    wanted = names or [item["Id"] for item in engine.containers(all=everything)]
    found = {}
    for name in wanted:
        try:
            found[name] = next(iter(engine.container_stats(name, one_shot=True)))
        except EngineError as error:
            if error.status != NOT_FOUND:
                raise
    return found


def row(word: str, now: Json, before: Json | None) -> Row:
    """word: as the person named the container."""
    memory = now.get("memory_stats") or {}
    used, limit = _used(memory), memory.get("limit", 0)
    networks = (now.get("networks") or {}).values()
    return {
        "word": word,
        "id": now["id"],
        "name": now["name"].removeprefix("/"),
        "cpu": _processor(now, before),
        "used": used,
        "limit": limit,
        "share": 100.0 * used / limit if limit else 0.0,
        "network": (sum(n["rx_bytes"] for n in networks), sum(n["tx_bytes"] for n in networks)),
        "blocks": _blocks(now.get("blkio_stats") or {}),
        "tasks": (now.get("pids_stats") or {}).get("current", 0),
        "is_gone": False,
    }


def vanished(word: str, last: Json) -> Row:
    """One that was asked for by name stays in the list, without figures."""
    return row(word, last, None) | {"is_gone": True}


def _processor(now: Json, before: Json | None) -> float:
    """Percent of one processor between two readings."""
    if before is None:
        return 0.0
    mine = _cpu(now, "cpu_usage", "total_usage") - _cpu(before, "cpu_usage", "total_usage")
    machine = _cpu(now, "system_cpu_usage") - _cpu(before, "system_cpu_usage")
    if mine <= 0 or machine <= 0:
        return 0.0
    return 100.0 * mine / machine * (_cpu(now, "online_cpus") or 1)


def _cpu(figures: Json, *path: str) -> int:
    value: Any = figures.get("cpu_stats") or {}
    for key in path:
        value = value.get(key) or {}
    return value or 0


def _used(memory: Json) -> int:
    """Without the file cache that the kernel can take back at once, which v1 and v2 name differently."""
    usage: int = memory.get("usage", 0)
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return usage - cache if cache < usage else usage


def _blocks(figures: Json) -> tuple[int, int]:
    """Bytes read and written."""
    read = written = 0
    for entry in figures.get("io_service_bytes_recursive") or ():
        match entry["op"][:1].lower():
            case "r":
                read += entry["value"]
            case "w":
                written += entry["value"]
    return read, written


def listing(*, truncate: bool) -> Listing:
    def figure(text: Callable[[Row], str], nothing: str = "--") -> Callable[[Row], str]:
        return lambda r: nothing if r["is_gone"] else text(r)

    fields = {
        "Container": ("CONTAINER", lambda r: r["word"]),
        "Name": ("NAME", lambda r: r["name"]),
        "ID": ("CONTAINER ID", lambda r: r["id"][:12] if truncate else r["id"]),
        "CPUPerc": ("CPU %", figure(lambda r: f"{r['cpu']:.2f}%")),
        "MemUsage": (
            "MEM USAGE / LIMIT",
            figure(lambda r: f"{human.binary_size(r['used'])} / {human.binary_size(r['limit'])}", "-- / --"),
        ),
        "MemPerc": ("MEM %", figure(lambda r: f"{r['share']:.2f}%")),
        "NetIO": ("NET I/O", figure(lambda r: " / ".join(human.size(count, 3) for count in r["network"]))),
        "BlockIO": ("BLOCK I/O", figure(lambda r: " / ".join(human.size(count, 3) for count in r["blocks"]))),
        "PIDs": ("PIDS", figure(lambda r: str(r["tasks"]))),
    }
    return Listing("*container.statsContext", fields, COLUMNS)


COMMANDS = {
    "stats": Command(
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        stats,
        (
            ("all", "a", "bool", False, "Show all containers (default shows just running)"),
            FORMAT,
            ("no-stream", "", "bool", False, "Disable streaming stats and only pull the first result"),
            ("no-trunc", "", "bool", False, "Do not truncate output"),
        ),
        aliases=("container stats", "stats"),
    )
}
