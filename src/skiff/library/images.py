"""Images in the hands of a program: pulled, built, listed, saved."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, json

from skiff.client.build_context import Context
from skiff.client.engine import EngineClient
from skiff.errors import InvalidParameter, SkiffError
from skiff.library import tars
from skiff.oci.reference import parse

DOCKERFILE = "Dockerfile"
LOADED = ("Loaded image: ", "Loaded image ID: ")


class BuildFailed(SkiffError):
    """The engine's own sentence; `log` is what was said until then."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class PullFailed(SkiffError):
    """The engine's own sentence."""


class PushFailed(SkiffError):
    """The engine's own sentence."""


class LoadFailed(SkiffError):
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
    _ended(
        client.pull_image(name.familiar_name, name.identifier, platform=platform or None, auth=auth),
        PullFailed,
    )


def push(client: EngineClient, reference: str, platform: str, auth: str) -> None:
    """Raises PushFailed, EngineError."""
    name = parse(reference).tagged() if parse(reference).is_bare else parse(reference)
    _ended(
        client.push_image(name.familiar_name, name.tag or "", auth=auth, platform=platform or None),
        PushFailed,
    )


def tag(client: EngineClient, reference: str, new: str) -> None:
    """Raises EngineError, InvalidParameter."""
    name = parse(new)
    if name.digest:
        raise InvalidParameter(f"a tag is given to an image, not a digest: {new}")
    client.tag_image(reference, name.familiar_name, name.tag or "")


def load(client: EngineClient, source: tars.Source, platform: str) -> list[str]:
    """Names or ids of what came, in the archive's order. Raises LoadFailed, EngineError."""
    told = _ended(client.load_images(tars.sent(source), quiet=True, platform=platform or None), LoadFailed)
    lines = "".join(message.get("stream") or "" for message in told).splitlines()
    return [line.partition(": ")[2] for line in lines if line.startswith(LOADED)]


def import_image(client: EngineClient, source: tars.Source, reference: str, **query: Any) -> str:
    """The new image's id. Raises LoadFailed, EngineError, InvalidParameter."""
    name = parse(reference) if reference else None
    told = _ended(
        client.import_image(
            tars.sent(source),
            fromSrc="-",
            repo=name.familiar_name if name else None,
            tag=name.tag if name else None,
            **query,
        ),
        LoadFailed,
    )
    return str(told[-1]["status"])


def _ended(messages: Iterator[dict[str, Any]], failed: type[SkiffError]) -> list[dict[str, Any]]:
    told = []
    for message in messages:
        if failure := message.get("errorDetail") or message.get("error"):
            raise failed(str(failure["message"] if isinstance(failure, dict) else failure))
        told.append(message)
    return told


def build(
    client: EngineClient,
    context: tars.Source,
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
    name, sent = _context(context, dockerfile)
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
        "POST", "/build", query=query, body=sent, headers={"Content-Type": "application/x-tar"}
    )
    return _result(reply.lines(), tell)


def _context(context: tars.Source, dockerfile: str) -> tuple[str, tars.Pieces]:
    """(the Dockerfile's name in it, the tar of it)."""
    is_text = "\n" in dockerfile
    if not isinstance(context, (str, os.PathLike)) or os.path.isfile(context):
        if is_text:
            raise InvalidParameter("a context that is a tar has its Dockerfile in it: give its name")
        return dockerfile or DOCKERFILE, tars.sent(context)
    root = os.path.realpath(context)
    if not os.path.isdir(root):
        raise InvalidParameter(f"expected a directory or a tar as the context, not {os.fspath(context)!r}")
    if is_text:
        name = f".skiff.{time.time_ns()}.dockerfile"
        return name, Context(root, "", {name: dockerfile.encode()}).tar()
    return dockerfile or DOCKERFILE, Context(root, dockerfile or DOCKERFILE).tar()


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
