"""The event bus: what happened, to whoever listens, and the last of it again for those who come late.

History is bounded, in memory only. A listener that does not keep up loses its place rather than the engine's
memory: its stream ends.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from skiff.docker.event import Actor, Event
from skiff.docker.filters import Filters

HISTORY: Final = 1024
BACKLOG: Final = 16384
FILTERS: Final = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope",
    "secret", "service", "type", "volume",
)  # fmt: skip

Clock = Callable[[], int]


class EventBus:
    """Publish and subscribe. now: nanoseconds since the epoch."""

    def __init__(self, now: Clock = time.time_ns) -> None:
        self._now = now
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    def tell(self, type: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """Something happened just now. type: `container`; actor: its id, or the name of a volume."""
        self.publish(
            Event(type=type, action=action, actor=Actor(actor, dict(attributes)), time_ns=self._now())
        )

    def publish(self, event: Event) -> None:
        """To everyone who listens, and into the history."""
        self._history.append(event)
        for queue in self._listeners:
            if queue.qsize() < BACKLOG:
                queue.put_nowait(event)
            elif queue.qsize() == BACKLOG:
                queue.put_nowait(None)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def past(self, since_ns: int, until_ns: int | None = None) -> Iterator[Event]:
        """What is remembered of that span, oldest first."""
        for event in list(self._history):
            if event.time_ns >= since_ns and (until_ns is None or event.time_ns <= until_ns):
                yield event

    @contextmanager
    def _listening(self) -> Iterator[asyncio.Queue[Event | None]]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def subscribe(
        self, filters: Filters, *, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[Event]:
        """Matching events: remembered ones from `since_ns`, then new ones until `until_ns`, or for ever."""
        with self._listening() as queue:
            if since_ns is not None:
                for event in self.past(since_ns, until_ns):
                    if matches(event, filters):
                        yield event
            try:
                async with asyncio.timeout(self._left(until_ns)):
                    while (event_or_end := await queue.get()) is not None:
                        if matches(event_or_end, filters):
                            yield event_or_end
            except TimeoutError:
                return

    def _left(self, until_ns: int | None) -> float | None:
        return None if until_ns is None else max(0.0, (until_ns - self._now()) / 1e9)


def matches(event: Event, filters: Filters) -> bool:
    """Engine API, SystemEvents, filters. Several names: all; several values of one: any."""
    return (
        filters.exact("scope", event.scope)
        and filters.exact("type", event.type)
        and _action(event.action, filters.values("event"))
        and filters.labels(event.actor.attributes)
        and all(
            _object(event, kind, filters.values(kind))
            for kind in ("container", "volume", "network", "daemon")
        )
        and _image(event, filters.values("image"))
        and not any(kind in filters for kind in ("config", "node", "plugin", "secret", "service"))
    )


def _action(action: str, asked: tuple[str, ...]) -> bool:
    """`health_status` also means `health_status: healthy`; `exec_start` means `exec_start: sh`."""
    return not asked or action in asked or action.partition(":")[0] in asked


def _object(event: Event, kind: str, asked: tuple[str, ...]) -> bool:
    if not asked:
        return True
    if event.type != kind:
        # A network's connect names its container in the attributes.
        return kind == "container" and event.actor.attributes.get("container", "") in asked
    name = event.actor.attributes.get("name", "")
    return any(
        event.actor.id == value or name == value or (len(value) >= 4 and event.actor.id.startswith(value))
        for value in asked
    )


def _image(event: Event, asked: tuple[str, ...]) -> bool:
    """By id, name, or name without tag; of an image's own events and of its containers'."""
    if not asked:
        return True
    attributes = event.actor.attributes
    if event.type == "image":
        known = (event.actor.id, attributes.get("name", ""))
    elif event.type == "container":
        known = (attributes.get("image", ""), "")
    else:
        return False
    bare = tuple(_without_tag(name) for name in known)
    return any(value in known or value in bare or _without_tag(value) in known for value in asked if value)


def _without_tag(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail and not head.endswith("sha256") else name
