"""What happens in an engine, as values."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Event(Struct, frozen=True):
    """type: container, image, network, volume, daemon. action: `start`, `die`, …; time: Unix seconds.

    attributes: of the thing it happened to; for a container its name, image and labels.
    """

    type: str
    action: str
    id: str
    time: float
    attributes: dict[str, str] = {}


def event_of(message: Mapping[str, Any]) -> Event:
    actor = message.get("Actor") or {}
    return Event(
        type=message.get("Type", ""),
        action=message.get("Action", ""),
        id=actor.get("ID", ""),
        time=message.get("timeNano", 0) / 1e9,
        attributes=dict(actor.get("Attributes") or {}),
    )
