"""Where a build's result goes: --output, --load, --push, --cache-to; what the engine hands over.

The engine says `{"aux": {"Export": token, "Number": n}}` and waits until the n-th of the things asked for was
fetched on another connection.
"""

from __future__ import annotations

import os
import sys

from skiff.cli.build_query import fields
from skiff.errors import InvalidParameter, NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

_KINDS = ("local", "tar", "oci", "docker", "image", "registry", "cacheonly")


class Wanted:
    """One thing to be handed over. dest: a path, "-" for stdout, "" when it stays with the engine.

    unpacked: the tar becomes a directory.
    """

    def __init__(self, kind: str, dest: str, attributes: dict[str, str], *, unpacked: bool) -> None:
        self.kind = kind
        self.dest = dest
        self.attributes = attributes
        self.unpacked = unpacked


def outputs(asked: Parsed) -> list[Wanted]:
    """InvalidParameter, in Docker's words."""
    found = [_output(text) for text in asked["output"]]
    if asked["load"]:
        found.append(Wanted("image", "", {}, unpacked=False))
    if asked["push"]:
        found.append(Wanted("registry", "", {}, unpacked=False))
    if sum(one.dest == "-" for one in found) > 1:
        raise InvalidParameter("only one output may go to stdout")
    return found


def _output(text: str) -> Wanted:
    if "=" not in text:
        given = {"type": "tar", "dest": "-"} if text == "-" else {"type": "local", "dest": text}
    else:
        given = fields(text)
    kind = given.pop("type", "")
    dest = given.pop("dest", "")
    if not kind:
        raise InvalidParameter("type is required for output")
    if kind not in _KINDS:
        raise NotImplementedHere(f"skiff build has no output of type {kind}: expected {', '.join(_KINDS)}")
    unpacked = kind == "local" or (kind in ("oci", "docker") and given.pop("tar", "true") == "false")
    if kind == "docker" and not dest:
        kind = "image"
    elif kind == "local" and not dest:
        raise InvalidParameter("dest is required for local output")
    elif kind in ("tar", "oci") and not dest:
        dest = "-"
    if kind in ("image", "registry", "cacheonly") and dest:
        raise InvalidParameter(f"dest is not supported by output of type {kind}")
    if dest == "-" and (unpacked or sys.stdout.isatty()):
        raise InvalidParameter(f"dest file is required for {kind} exporter. refusing to write to console")
    if dest not in ("", "-") and not unpacked and os.path.isdir(dest):
        raise InvalidParameter(f"destination file {dest} is a directory")
    return Wanted(kind, dest, given, unpacked=unpacked)


def caches(asked: Parsed) -> list[Wanted]:
    """--cache-to. InvalidParameter, NotImplementedHere."""
    found = []
    for text in asked["cache-to"]:
        given = fields(text) if "=" in text else {"type": "registry", "ref": text}
        kind = given.pop("type", "")
        mode = given.get("mode", "min")
        if mode not in ("min", "max"):
            raise InvalidParameter(f"invalid cache mode {mode!r}: expected min or max")
        if kind == "local":
            dest = given.pop("dest", "")
            if not dest:
                raise InvalidParameter("dest is required for local cache")
            found.append(Wanted("local", dest, given, unpacked=True))
        elif kind == "registry":
            if not given.get("ref"):
                raise InvalidParameter("ref is required for registry cache")
            found.append(Wanted("registry", "", given, unpacked=False))
        elif kind == "inline":
            found.append(Wanted("inline", "", given, unpacked=False))
        else:
            raise NotImplementedHere(
                f"skiff build exports no cache of type {kind or text!r}: inline, registry or local"
            )
    return found


def described(wanted: list[Wanted]) -> list[Json]:
    """As the engine is told: Engine API, ImageBuild, `outputs`."""
    return [{"Type": one.kind, "Attrs": one.attributes} for one in wanted]


def received(session: Session, messages: Iterable[Json], wanted: list[Wanted]) -> Iterator[Json]:
    """The messages; what is handed over meanwhile is taken."""
    for message in messages:
        export = (message.get("aux") or {}).get("Export")
        if export is None:
            yield message
        else:
            _take(session, export, wanted[message["aux"]["Number"]])


def _take(session: Session, token: str, wanted: Wanted) -> None:
    connection = session.another()
    try:
        export = connection.request("GET", f"/skiff/build/exports/{token}")
        if wanted.unpacked:
            from skiff.client import tarball

            os.makedirs(wanted.dest, exist_ok=True)
            owners = os.geteuid() == 0
            tarball.unpack(export, os.fsencode(wanted.dest), b"", b"", owners=owners)
        elif wanted.dest == "-":
            for chunk in export.chunks():
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        else:
            with open(wanted.dest, "wb") as file:
                for chunk in export.chunks():
                    file.write(chunk)
    except OSError as error:
        raise InvalidParameter(f"{wanted.dest}: {(error.strerror or str(error)).lower()}") from error
    finally:
        connection.close()


def metadata(asked: Parsed, id: str, digests: list[Json]) -> None:
    """--metadata-file, by BuildKit's names."""
    from skiff.client import json_text

    found: Json = {"containerimage.config.digest": id, "containerimage.digest": id} if id else {}
    for pushed in digests:
        found["containerimage.digest"] = pushed["Digest"]
    if asked["tag"]:
        found["image.name"] = ",".join(asked["tag"])
    write(asked["metadata-file"], json_text.encode(found).decode())


def write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from error
