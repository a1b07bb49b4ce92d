"""Images in the hands of a program: pulled, built, listed, saved."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, json

from skiff.client.build_context import Context
from skiff.client.engine import EngineClient
from skiff.errors import InvalidParameter, SkiffError
from skiff.oci.reference import parse

DOCKERFILE = "Dockerfile"


class BuildFailed(SkiffError):
    """The engine's own sentence; `log` is what was said until then."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class PullFailed(SkiffError):
    """The engine's own sentence."""


class Image(Struct, frozen=True):
    """One image as it was when it was asked for. size: bytes; tags: `busybox:latest`, …"""

    id: str
    tags: tuple[str, ...] = ()
    size: int = 0
    labels: dict[str, str] = {}


def image_of(view: Mapping[str, Any]) -> Image:
    """From a row of the list, or from inspect."""
    config = view.get("Config") or {}
    return Image(
        id=view["Id"],
        tags=tuple(view.get("RepoTags") or ()),
        size=view.get("Size") or 0,
        labels=dict(view.get("Labels") or config.get("Labels") or {}),
    )


def pull(client: EngineClient, reference: str, platform: str, auth: str | None) -> None:
    """Raises PullFailed, EngineError."""
    name = parse(reference).tagged() if parse(reference).is_bare else parse(reference)
    for message in client.pull_image(
        name.familiar_name, name.identifier, platform=platform or None, auth=auth
    ):
        if failure := message.get("errorDetail") or message.get("error"):
            raise PullFailed(str(failure["message"] if isinstance(failure, dict) else failure))


def build(
    client: EngineClient,
    context: str | os.PathLike[str],
    *,
    dockerfile: str,
    tag: Sequence[str],
    args: Mapping[str, str],
    target: str,
    platform: str,
    labels: Mapping[str, str],
    cache: bool,
    pull: bool,
    tell: Callable[[str], None] | None,
) -> str:
    """The new image's id. dockerfile: a path below the context, or the text itself when it has a line break.

    Raises BuildFailed, EngineError, InvalidParameter.
    """
    root = os.path.realpath(context)
    if not os.path.isdir(root):
        raise InvalidParameter(f"expected a directory as the context, not {os.fspath(context)!r}")
    if "\n" in dockerfile:
        name = f".skiff.{time.time_ns()}.dockerfile"
        sent = Context(root, "", {name: dockerfile.encode()})
    else:
        name = dockerfile or DOCKERFILE
        sent = Context(root, name)
    query = {
        "dockerfile": name,
        "t": list(tag) or None,
        "buildargs": json.encode(dict(args)).decode() if args else None,
        "labels": json.encode(dict(labels)).decode() if labels else None,
        "target": target or None,
        "platform": platform or None,
        "nocache": None if cache else True,
        "pull": pull or None,
        "rm": True,
        "version": "1",
    }
    reply = client.connection.request(
        "POST", "/build", query=query, body=sent.tar(), headers={"Content-Type": "application/x-tar"}
    )
    return _result(reply.lines(), tell)


def _result(messages: Iterator[dict[str, Any]], tell: Callable[[str], None] | None) -> str:
    log: list[str] = []
    id = ""
    for message in messages:
        if text := message.get("stream"):
            log.append(text)
            if tell is not None:
                tell(text.rstrip("\n"))
        if failure := message.get("errorDetail") or message.get("error"):
            sentence = failure["message"] if isinstance(failure, dict) else failure
            raise BuildFailed(str(sentence), "".join(log))
        id = (message.get("aux") or {}).get("ID") or id
    if not id:
        raise BuildFailed("the engine ended the build without an image", "".join(log))
    return id
