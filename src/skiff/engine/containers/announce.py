"""Container events: the actor's attributes as Docker fills them."""

import time
from collections.abc import Callable

from skiff.docker.event import Actor, Event
from skiff.engine.containers.record import Container


class Announcer:
    """announce(container, "die", exitCode="0")."""

    def __init__(self, publish: Callable[[Event], None]) -> None:
        self._publish = publish

    def __call__(self, container: Container, action: str, /, **attributes: str) -> None:
        everything = {
            **(container.config.labels or {}),
            "image": container.config.image,
            "name": container.name,
            **attributes,
        }
        self._publish(
            Event(
                type="container",
                action=action,
                actor=Actor(container.id, everything),
                time_ns=time.time_ns(),
            )
        )
