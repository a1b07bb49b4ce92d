"""Memory is given back soon after something happened, and then seldom."""

import os
from collections.abc import Iterator

import pytest

from skiff.runtime.monitor import thrifty
from skiff.runtime.monitor.poller import READ
from skiff.runtime.monitor.thrifty import Thrifty


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(thrifty, "time", clock)
    return clock


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def test_soon_after_the_first_work_and_seldom_after_that(clock: Clock, pipe: tuple[int, int]) -> None:
    given: list[float] = []
    poller = Thrifty(lambda: given.append(clock.now))
    poller.watch(pipe[0], READ, lambda events: print(os.read(pipe[0], 1)))

    def after(seconds: float, *, work: bool) -> None:
        clock.now += seconds
        if work:
            os.write(pipe[1], b"x")
        poller.run_once(0)

    after(0, work=False)
    assert given == []  # nothing has happened
    after(0, work=True)
    after(thrifty.SOON + 0.01, work=True)
    assert len(given) == 1
    for _ in range(int(thrifty.SELDOM) * 10 - 2):
        after(0.1, work=True)
    assert len(given) == 1
    after(0.5, work=True)
    assert len(given) == 2
    after(thrifty.SELDOM, work=False)
    assert len(given) == 3  # of the work that came since
    after(thrifty.SELDOM * 5, work=False)
    assert len(given) == 3


def test_the_wait_ends_when_it_is_due(pipe: tuple[int, int]) -> None:
    given: list[bool] = []
    poller = Thrifty(lambda: given.append(True))
    poller.watch(pipe[0], READ, lambda events: print(os.read(pipe[0], 1)))
    os.write(pipe[1], b"x")
    assert poller.run_once()
    assert not poller.run_once()
    assert not poller.run_once(0)
    assert given == [True]
