"""The running side of all containers: tasks, locks, and who waits for an exit. Nothing of it is stored.

A lock per container is taken by lifecycle and supervisor, and never held while waiting for a process to end.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from skiff.docker.container_view import WaitResponse
from skiff.engine.execution.runtime import Task
from skiff.errors import Conflict

Waiter = asyncio.Future[WaitResponse]


class Live:
    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.kept: set[str] = set()  # being restarted by a person: --rm must not take them away
        self.delays: dict[str, timedelta] = {}  # the last restart's
        self.restarts: dict[str, asyncio.TimerHandle] = {}  # the next one's
        self._exits: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._downs: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._stops: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._removals: defaultdict[str, set[Waiter]] = defaultdict(set)

    def task(self, id: str) -> Task:
        """Conflict if it does not run."""
        task = self.tasks.get(id)
        if task is None:
            raise Conflict(f"container {id} is not running")
        return task

    @contextmanager
    def keeping(self, id: str) -> Iterator[None]:
        """An exit inside the block does not remove the container."""
        self.kept.add(id)
        try:
            yield
        finally:
            self.kept.discard(id)

    def next_exit(self, id: str) -> Waiter:
        return self._wait(self._exits, id)

    def next_down(self, id: str) -> Waiter:
        """It is down; a restart may be due."""
        return self._wait(self._downs, id)

    def next_stop(self, id: str) -> Waiter:
        """It is down and no restart is due."""
        return self._wait(self._stops, id)

    def removal(self, id: str) -> Waiter:
        return self._wait(self._removals, id)

    def tell_exit(self, id: str, response: WaitResponse) -> None:
        _tell(self._exits, id, response)

    def tell_down(self, id: str, response: WaitResponse) -> None:
        _tell(self._downs, id, response)

    def tell_stop(self, id: str, response: WaitResponse) -> None:
        self.tell_down(id, response)
        _tell(self._stops, id, response)

    def tell_removal(self, id: str, response: WaitResponse) -> None:
        """Everyone who still waits for anything of it is answered, too."""
        for waiters in (self._exits, self._downs, self._stops, self._removals):
            _tell(waiters, id, response)
        self.locks.pop(id, None)
        self.delays.pop(id, None)
        self.cancel_restart(id)

    def cancel_restart(self, id: str) -> bool:
        """True if one was due."""
        timer = self.restarts.pop(id, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _wait(self, waiters: defaultdict[str, set[Waiter]], id: str) -> Waiter:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        waiters[id].add(waiter)
        waiter.add_done_callback(lambda done: _forget(waiters, id, done))
        return waiter


def _tell(waiters: defaultdict[str, set[Waiter]], id: str, response: WaitResponse) -> None:
    for waiter in waiters.pop(id, ()):
        if not waiter.done():
            waiter.set_result(response)


def _forget(waiters: defaultdict[str, set[Waiter]], id: str, waiter: Waiter) -> None:
    if id in waiters:
        waiters[id].discard(waiter)
        if not waiters[id]:
            del waiters[id]
