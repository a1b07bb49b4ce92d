"""What the engine did for one request: the steps of all its processes, collected for whoever asked for them.

A request with the header X-Skiff-Trace: NAME is recorded under that name, together with others that have the
same; GET /skiff/traces/NAME gives the timeline once. The exit of a container that such a request has started
belongs to it, too. While no request is recorded nothing is watched (linux/watching.py).
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic_ns

from msgspec import Struct

from skiff.engine.execution import bundle
from skiff.engine.execution.native import NativeRuntime
from skiff.engine.execution.native_task import NativeTask
from skiff.engine.images.fetch import Fetcher
from skiff.engine.networks.sandboxes import Sandboxes
from skiff.engine.storage import apply
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.state import SqliteTable
from skiff.engine.system import shell
from skiff.errors import InvalidParameter, NotFound
from skiff.linux import links, watching
from skiff.linux.netlink import NetlinkSocket
from skiff.linux.watching import Recorder, Step, Target

TOP = ("request", "exit")
KEPT = 16  # traces that nobody has fetched yet
LONGEST = 50_000  # steps
_NAME = re.compile(r"[0-9a-f]{8,64}")


def _names_of_links(netlink: NetlinkSocket) -> list[tuple[int, str]]:
    """Messages speak of numbers, people of names; each network namespace has its own."""
    try:
        return [(link.number, link.name) for link in links.links(netlink)]
    except OSError:
        return []


# What of the engine's own work is a step; the name is a key of shell.py.
ENGINE = (
    Target(NetlinkSocket, "request", "netlink.request", method=True, also=_names_of_links),
    Target(NetlinkSocket, "transaction", "netlink.transaction", method=True),
    Target(SqliteTable, "put", "state.put", method=True),
    Target(SqliteTable, "delete", "state.delete", method=True),
    Target(OverlaySnapshots, "prepare", "snapshot.prepare", method=True),
    Target(OverlaySnapshots, "remove", "snapshot.remove", method=True),
    Target(apply.Layers, "extract", "layer.extract", method=True),
    Target(apply.Layers, "commit", "layer.commit", method=True),
    Target(Fetcher, "fetch", "blob.fetch", method=True),
    Target(Sandboxes, "open", "sandbox.open", method=True),
    Target(Sandboxes, "close", "sandbox.close", method=True),
    Target(bundle, "write", "bundle.write"),
    Target(bundle, "remove", "bundle.remove"),
    Target(NativeRuntime, "create", "task.create", method=True),
    Target(NativeTask, "ask", "task.ask", method=True),
)


class TraceStep(Struct, frozen=True, rename="pascal"):
    """start, took: microseconds, from the beginning of the trace. process: engine, monitor, init, exec.

    shell: the command that does the same, or "" where there is none. depth: how many steps it is within.
    """

    start: float
    took: float
    process: str
    pid: int
    title: str
    shell: str = ""
    error: str = ""
    depth: int = 0


class Timeline(Struct, frozen=True, rename="pascal"):
    """took: microseconds, from the first step to the end of the last."""

    took: float
    steps: list[TraceStep]


class Traces:
    def __init__(self) -> None:
        self._recorders: dict[str, Recorder] = {}
        self._active = 0

    @contextmanager
    def request(self, name: str, title: str) -> Iterator[None]:
        """Record what this context does. InvalidParameter for a name that is none."""
        if not _NAME.fullmatch(name):
            raise InvalidParameter(
                f"expected 8 to 64 hexadecimal digits as the name of a trace, not {name!r}"
            )
        found = self._recorders.get(name)
        if found is None:
            while len(self._recorders) >= KEPT:
                self._recorders.pop(next(iter(self._recorders)))
            found = self._recorders[name] = Recorder(f"trace-{name}", LONGEST)
        with self._recording(found, "request", title):
            yield

    @contextmanager
    def ending(self, container: str) -> Iterator[None]:
        """What follows the exit of a container, recorded if its start was."""
        for found in self._recorders.values():
            if container in found.followed:
                with self._recording(found, "exit", container):
                    yield
                return
        yield

    @contextmanager
    def _recording(self, found: Recorder, name: str, title: str) -> Iterator[None]:
        if not self._active:
            watching.watch(watching.to_recorder, (*watching.kernel(), *ENGINE))
        self._active += 1
        token = watching.recorder.set(found)
        begin = monotonic_ns()
        try:
            yield
        finally:
            watching.recorder.reset(token)
            found.add((Step(name, [title], begin, monotonic_ns(), os.getpid()),))
            self._active -= 1
            if not self._active:
                watching.unwatch()

    def take(self, name: str) -> Timeline:
        """The timeline; it is forgotten here. NotFound."""
        found = self._recorders.pop(name, None)
        if found is None:
            raise NotFound(f"no such trace: {name}")
        return timeline(found.steps)


def timeline(steps: list[Step]) -> Timeline:
    """In order, told in words. Pure."""
    ordered = sorted(shell.merged(steps), key=lambda step: (step.begin, -step.end))
    if not ordered:
        return Timeline(0, [])
    first, last = ordered[0].begin, max(step.end for step in ordered)
    told = []
    open_until: dict[str, list[int]] = {}
    names = shell.processes(ordered)
    for step in ordered:
        process = names[step.pid]
        within = open_until.setdefault(process, [])
        if step.name in TOP:
            within.clear()  # requests go on side by side
        while within and within[-1] <= step.begin and within[-1] < step.end:
            within.pop()
        said = shell.told(step)
        told.append(
            TraceStep(
                start=(step.begin - first) / 1000,
                took=(step.end - step.begin) / 1000,
                process=process,
                pid=step.pid,
                title=said.title,
                shell=said.shell,
                error=step.error,
                depth=len(within),
            )
        )
        within.append(step.end)
    return Timeline((last - first) / 1000, told)
