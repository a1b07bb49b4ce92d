import asyncio

import pytest

from skiff.docker.event import Actor, Event
from skiff.docker.filters import Filters
from skiff.engine.system.events import BACKLOG, EventBus, matches


def event(type: str = "container", action: str = "start", id: str = "abcdef0123", **attributes: str) -> Event:
    return Event(type=type, action=action, actor=Actor(id, attributes), time_ns=1)


WEB = event(name="web", image="nginx:1", tier="front")


@pytest.mark.parametrize(
    ("happened", "filters", "expected"),
    [
        (WEB, {}, True),
        (WEB, {"type": ("container",)}, True),
        (WEB, {"type": ("image",)}, False),
        (WEB, {"type": ("image", "container")}, True),
        (WEB, {"event": ("start",)}, True),
        (WEB, {"event": ("die",)}, False),
        (event(action="exec_start: sh -c x"), {"event": ("exec_start",)}, True),
        (event(action="health_status: healthy"), {"event": ("health_status",)}, True),
        (WEB, {"container": ("web",)}, True),
        (WEB, {"container": ("abcdef0123",)}, True),
        (WEB, {"container": ("abcdef",)}, True),
        (WEB, {"container": ("db",)}, False),
        (WEB, {"label": ("tier=front",)}, True),
        (WEB, {"label": ("tier=back",)}, False),
        (WEB, {"image": ("nginx:1",)}, True),
        (WEB, {"image": ("nginx",)}, True),
        (WEB, {"image": ("redis",)}, False),
        (WEB, {"scope": ("local",)}, True),
        (WEB, {"scope": ("swarm",)}, False),
        (WEB, {"service": ("x",)}, False),
        (event(type="image", id="sha256:1", name="nginx:1"), {"image": ("nginx",)}, True),
        (event(type="volume", id="data"), {"volume": ("data",)}, True),
        (event(type="volume", id="data"), {"image": ("data",)}, False),
        (event(type="network", action="connect", container="abc"), {"container": ("abc",)}, True),
    ],
)
def test_filters(happened: Event, filters: dict[str, tuple[str, ...]], expected: bool) -> None:
    assert matches(happened, Filters(filters)) is expected


async def test_a_listener_hears_what_happens() -> None:
    bus = EventBus()
    heard: list[str] = []

    async def listen() -> None:
        async for happened in bus.subscribe(Filters({"type": ("volume",)})):
            heard.append(happened.action)
            if happened.action == "destroy":
                return

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(0)
    assert bus.listeners == 1
    bus.tell("volume", "create", "data", {})
    bus.tell("image", "pull", "x", {})
    bus.tell("volume", "destroy", "data", {})
    await task
    assert heard == ["create", "destroy"]


async def test_the_past_is_told_once_and_the_future_after_it() -> None:
    now = [0]
    bus = EventBus(lambda: now[0])
    for second in (1, 2, 3):
        now[0] = second * 10**9
        bus.tell("volume", f"at{second}", "data", {})
    found = [
        happened.action async for happened in bus.subscribe(Filters(), since_ns=2 * 10**9, until_ns=3 * 10**9)
    ]
    assert found == ["at2", "at3"]
    assert bus.listeners == 0


async def test_without_since_nothing_old_is_told() -> None:
    bus = EventBus(lambda: 10)
    bus.tell("volume", "create", "data", {})
    assert [happened async for happened in bus.subscribe(Filters(), until_ns=5)] == []


async def test_history_is_bounded() -> None:
    bus = EventBus(lambda: 1)
    for number in range(3000):
        bus.tell("volume", str(number), "data", {})
    assert len(list(bus.past(0))) == 1024


async def test_a_listener_that_sleeps_loses_its_place() -> None:
    bus = EventBus(lambda: 1)
    stream = aiter(bus.subscribe(Filters()))
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    for number in range(BACKLOG + 100):
        bus.tell("volume", str(number), "data", {})
    assert (await first).action == "0"
    assert len([happened async for happened in stream]) <= BACKLOG
    assert bus.listeners == 0
