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
        self._tell(action, Actor(container.id, everything))

    def pruned(self, freed: int) -> None:
        """freed: bytes."""
        self._tell("prune", Actor("", {"reclaimed": str(freed)}))

    def _tell(self, action: str, actor: Actor) -> None:
        self._publish(Event(type="container", action=action, actor=actor, time_ns=time.time_ns()))
