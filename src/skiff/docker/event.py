"""What happened, as GET /events tells it. Pure.

Engine API 1.51, EventMessage. The lower-case fields (`status`, `id`, `from`) are the older shape, which every
version up to 1.51 still carries for containers and images.
"""

from typing import Any

from msgspec import Struct


class Actor(Struct, frozen=True):
    """What it happened to. attributes: strings; for a container its name, image and labels among them."""

    id: str
    attributes: dict[str, str]


class Event(Struct, frozen=True, kw_only=True):
    """type: container image network volume daemon builder. action: `create`, `health_status: healthy`.

    time_ns: since the epoch.
    """

    type: str
    action: str
    actor: Actor
    time_ns: int
    scope: str = "local"


def message(event: Event) -> dict[str, Any]:
    """The JSON object that clients read."""
    body: dict[str, Any] = {}
    if event.type in ("container", "image"):
        body["status"] = event.action
        body["id"] = event.actor.id
        if event.type == "container" and (image := event.actor.attributes.get("image")):
            body["from"] = image
    body["Type"] = event.type
    body["Action"] = event.action
    body["Actor"] = {"ID": event.actor.id, "Attributes": event.actor.attributes}
    body["scope"] = event.scope
    body["time"] = event.time_ns // 1_000_000_000
    body["timeNano"] = event.time_ns
    return body
