"""Is it healthy? A pure state machine, and the loop that probes.

starting ──probe ok──► healthy ──`retries` failures──► unhealthy ──probe ok──► healthy
Failures within the start period do not count.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker import units
from skiff.docker.container import ContainerConfig
from skiff.docker.container_view import Health, HealthcheckResult
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.record import Container, Records

KEPT = 5  # probes in the log
LONGEST_OUTPUT = 4096  # bytes of a probe's output that are kept
DEFAULT_INTERVAL = timedelta(seconds=30)
DEFAULT_TIMEOUT = timedelta(seconds=30)
DEFAULT_START_INTERVAL = timedelta(seconds=5)
DEFAULT_RETRIES = 3


class Check(Struct, frozen=True):
    """A health check with its defaults filled in."""

    command: tuple[str, ...]
    interval: timedelta
    timeout: timedelta
    start_period: timedelta
    start_interval: timedelta
    retries: int


class Probe(Struct, frozen=True):
    """One result. code: 0 is healthy; -1 when it took too long or could not run."""

    start_ns: int
    end_ns: int
    code: int
    output: str


def check_of(config: ContainerConfig) -> Check | None:
    """None when there is none, or it is switched off. Engine API, HealthConfig."""
    wish = config.healthcheck or None
    if wish is None or not wish.test or wish.test[0] == "NONE":
        return None
    kind, *words = wish.test
    if kind == "CMD-SHELL":
        words = [*(config.shell or ("/bin/sh", "-c")), *words]
    elif kind != "CMD":
        return None
    if not words:
        return None

    def span(ns: int | None, default: timedelta) -> timedelta:
        return timedelta(microseconds=ns / 1000) if ns else default

    return Check(
        command=tuple(words),
        interval=span(wish.interval or None, DEFAULT_INTERVAL),
        timeout=span(wish.timeout or None, DEFAULT_TIMEOUT),
        start_period=span(wish.start_period or None, timedelta(0)),
        start_interval=span(wish.start_interval or None, DEFAULT_START_INTERVAL),
        retries=wish.retries or DEFAULT_RETRIES,
    )


def observe(health: Health, probe: Probe, check: Check, *, age: timedelta) -> Health:
    """The health after a probe. age: of the container when the probe began."""
    result = HealthcheckResult(
        start=units.rfc3339(probe.start_ns),
        end=units.rfc3339(probe.end_ns),
        exit_code=probe.code,
        output=probe.output,
    )
    log = (*health.log, result)[-KEPT:]
    if probe.code == 0:
        return Health(status="healthy", failing_streak=0, log=log)
    if health.status == "starting" and age < check.start_period:
        return replace(health, log=log)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= check.retries else health.status
    return Health(status=status, failing_streak=streak, log=log)


def pause(health: Health, check: Check, *, age: timedelta) -> timedelta:
    """How long until the next probe."""
    if health.status == "starting" and age < check.start_period:
        return check.start_interval
    return check.interval


Run = Callable[[str, Check], Awaitable[tuple[int, bytes]]]


class Probes:
    """The loops, one for each running container with a check. run: executes a command in a container.

    spawn is set by the supervisor, in whose task group the loops live.
    """

    spawn: Callable[[Coroutine[Any, Any, None]], None]

    def __init__(self, *, records: Records, run: Run, announce: Announcer) -> None:
        self.records = records
        self.run = run
        self.announce = announce
        self._loops: dict[str, asyncio.Task[None]] = {}
        self.spawn = lambda work: work.close()

    def begin(self, container: Container) -> None:
        """It runs now, or ran already when the engine began."""
        check = check_of(container.config)
        if check is None:
            return
        if not container.state.health:
            state = replace(container.state, health=Health())
            self.records.put(replace(container, state=state))
        self.spawn(self._loop(container.id, check))

    def end(self, id: str) -> None:
        loop = self._loops.pop(id, None)
        if loop is not None:
            loop.cancel()

    async def _loop(self, id: str, check: Check) -> None:
        here = asyncio.current_task()
        if here is not None:
            self._loops[id] = here
        began = time.monotonic()
        while id in self.records and self.records.get(id).state.running:
            health = self.records.get(id).state.health or Health()
            age = timedelta(seconds=time.monotonic() - began)
            await asyncio.sleep(pause(health, check, age=age).total_seconds())
            container = self.records.get(id)
            if container.state.paused:
                continue
            age = timedelta(seconds=time.monotonic() - began)
            probe = await self._probe(id, check)
            self._store(self.records.get(id), probe, check, age)

    async def _probe(self, id: str, check: Check) -> Probe:
        start = time.time_ns()
        try:
            async with asyncio.timeout(check.timeout.total_seconds()):
                code, output = await self.run(id, check)
        except TimeoutError:
            seconds = check.timeout.total_seconds()
            code, output = -1, f"Health check exceeded timeout ({seconds:g}s)".encode()
        text = output[:LONGEST_OUTPUT].decode("utf-8", "replace")
        return Probe(start, time.time_ns(), code, text)

    def _store(self, container: Container, probe: Probe, check: Check, age: timedelta) -> None:
        if not container.state.running:
            return
        before = container.state.health or Health()
        after = observe(before, probe, check, age=age)
        container = self.records.put(replace(container, state=replace(container.state, health=after)))
        if after.status != before.status:
            self.announce(container, f"health_status: {after.status}")
