"""Cgroup figures as `docker stats` reads them. The shape is that of cgroup v1 or v2, as Docker's is."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from skiff.docker import units
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.spec.translate import Ground, cgroup_path
from skiff.linux import cgroups

INTERVAL = 1.0  # seconds between two documents, and between the two measures of one
TICK_NS = 10_000_000  # USER_HZ is 100 wherever Linux runs
ZERO_TIME = "0001-01-01T00:00:00Z"

Document = dict[str, Any]


class Stats:
    def __init__(self, *, records: Records, live: Live, ground: Ground) -> None:
        self.records = records
        self.live = live
        self.ground = ground

    def read(self, text: str, *, stream: bool = True, one_shot: bool = False) -> AsyncIterator[Document]:
        """One document a second, or one. Looks up at once (NotFound)."""
        return self._documents(self.records.find(text).id, stream=stream, one_shot=one_shot)

    async def _documents(self, id: str, *, stream: bool, one_shot: bool) -> AsyncIterator[Document]:
        before = None
        if not one_shot and not stream:
            before = self._measure(id)
            await asyncio.sleep(INTERVAL)
        while id in self.records:
            now = self._measure(id)
            container = self.records.get(id)
            yield _document(container, now, before)
            if not stream:
                return
            before = now
            await asyncio.sleep(INTERVAL)

    def _measure(self, id: str) -> Document:
        """The figures of this moment; empty ones when it does not run."""
        task = self.live.tasks.get(id)
        if task is None or id not in self.records:
            return {}
        host = self.records.get(id).host
        here = cgroups.layout()
        group = cgroups.existing(here, cgroup_path(host.cgroup_parent or self.ground.cgroup_parent, id))
        try:
            figures = group.figures()
        except FileNotFoundError:
            return {}  # it has just ended
        unified = self.ground.machine.unified
        return {
            "read": units.rfc3339(time.time_ns()),
            "pids_stats": _pids(figures),
            "cpu_stats": _cpu(figures, unified=unified),
            "memory_stats": _memory(figures, unified=unified),
            "blkio_stats": _blkio(figures, unified=unified),
            "networks": _networks(task.pid) if host.network_mode not in ("host", "none") else None,
        }


def _document(container: Container, now: Document, before: Document | None) -> Document:
    empty_cpu = {"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}}
    empty_cpu["throttling_data"] = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    document: Document = {
        "name": "/" + container.name,
        "id": container.id,
        "read": now.get("read", ZERO_TIME),
        "preread": (before or {}).get("read", ZERO_TIME),
        "num_procs": 0,
        "pids_stats": now.get("pids_stats", {}),
        "cpu_stats": now.get("cpu_stats", empty_cpu),
        "precpu_stats": (before or {}).get("cpu_stats", empty_cpu),
        "memory_stats": now.get("memory_stats", {}),
        "blkio_stats": now.get("blkio_stats", _no_blkio()),
        "storage_stats": {},
    }
    if now.get("networks"):
        document["networks"] = now["networks"]
    return document


def _number(text: str) -> int:
    """A figure; `max` and what cannot be read is 0."""
    text = text.strip()
    return int(text) if text.isdigit() else 0


def _table(text: str) -> dict[str, int]:
    """`name number` on each line."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if value.isdigit():
            found[name.strip()] = int(value)
    return found


def _pids(figures: dict[str, str]) -> Document:
    if "pids.current" not in figures:
        return {}
    limit = figures.get("pids.max", "max").strip()
    found: Document = {"current": _number(figures["pids.current"])}
    if limit != "max":
        found["limit"] = _number(limit)
    return found


def _cpu(figures: dict[str, str], *, unified: bool) -> Document:
    table = _table(figures.get("cpu.stat", ""))
    throttled = table.get("throttled_time", table.get("throttled_usec", 0) * 1000)
    if unified:
        usage: Document = {
            "total_usage": table.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": table.get("system_usec", 0) * 1000,
            "usage_in_usermode": table.get("user_usec", 0) * 1000,
        }
    else:
        ticks = _table(figures.get("cpuacct.stat", ""))
        usage = {
            "total_usage": _number(figures.get("cpuacct.usage", "")),
            "percpu_usage": [_number(n) for n in figures.get("cpuacct.usage_percpu", "").split()],
            "usage_in_kernelmode": ticks.get("system", 0) * TICK_NS,
            "usage_in_usermode": ticks.get("user", 0) * TICK_NS,
        }
    return {
        "cpu_usage": usage,
        "system_cpu_usage": _system_cpu(),
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": table.get("nr_periods", 0),
            "throttled_periods": table.get("nr_throttled", 0),
            "throttled_time": throttled,
        },
    }


def _system_cpu() -> int:
    """Nanoseconds of all processors since boot: the first seven columns of /proc/stat."""
    with open("/proc/stat", encoding="ascii") as file:
        return sum(map(int, file.readline().split()[1:8])) * TICK_NS


def _memory(figures: dict[str, str], *, unified: bool) -> Document:
    stats = _table(figures.get("memory.stat", ""))
    if unified:
        usage = _number(figures.get("memory.current", ""))
        limit = _number(figures.get("memory.max", ""))
        return {"usage": usage, "stats": stats, "limit": limit or _total_memory()}
    limit = _number(figures.get("memory.limit_in_bytes", ""))
    failures = _number(figures.get("memory.failcnt", ""))
    return {
        "usage": _number(figures.get("memory.usage_in_bytes", "")),
        "max_usage": _number(figures.get("memory.max_usage_in_bytes", "")),
        "stats": stats,
        "limit": min(limit or _total_memory(), _total_memory()),
        **({"failcnt": failures} if failures else {}),
    }


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _no_blkio() -> Document:
    names = ("service_bytes", "serviced", "queue", "service_time", "wait_time", "merged", "time")
    found: Document = {f"io_{name}_recursive": None for name in names}
    return {**found, "sectors_recursive": None}


def _blkio(figures: dict[str, str], *, unified: bool) -> Document:
    found: Document = {name: [] for name in _no_blkio()}
    if unified:
        entries = []
        for line in figures.get("io.stat", "").splitlines():
            device, *pairs = line.split()
            values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            for key, op in (("rbytes", "read"), ("wbytes", "write")):
                if key in values and ":" in device:
                    entries.append(_blkio_entry(device, op, values[key]))
        found["io_service_bytes_recursive"] = entries
        return found
    for file, key in (
        ("blkio.throttle.io_service_bytes_recursive", "io_service_bytes_recursive"),
        ("blkio.throttle.io_serviced_recursive", "io_serviced_recursive"),
    ):
        rows = (line.split() for line in figures.get(file, "").splitlines())
        found[key] = [_blkio_entry(row[0], row[1], row[2]) for row in rows if len(row) == 3]
    return found


def _blkio_entry(device: str, op: str, value: str) -> Document:
    major, _, minor = device.partition(":")
    return {"major": _number(major), "minor": _number(minor), "op": op, "value": _number(value)}


def _networks(pid: int) -> Document | None:
    """Interface → figures, but for the loopback; from the namespace of the process."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.readlines()[2:]
    except (FileNotFoundError, ProcessLookupError):
        return None
    names = ("bytes", "packets", "errors", "dropped")
    found: Document = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            continue
        columns = [int(value) for value in rest.split()]
        received = {f"rx_{key}": columns[i] for i, key in enumerate(names)}
        sent = {f"tx_{key}": columns[i + 8] for i, key in enumerate(names)}
        found[name.strip()] = received | sent
    return found
