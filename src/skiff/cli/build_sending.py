"""A build's contexts on their way to the engine: only what has changed since the last time;
as one tar to an engine that cannot. Archives and lone Dockerfiles from stdin go as they come.
"""

from __future__ import annotations

import os
import sys

from skiff.cli import human
from skiff.cli.build_query import fields, progress_goes, read
from skiff.cli.transfer import Transfer
from skiff.client.build_context import BLOCK, IGNORE, Context, header
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter, NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.client.connection import Connection

    Json = dict[str, Any]
    Body = Iterator[bytes] | bytes | None  # of POST /build

_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_REMOTE = ("http://", "https://", "git://", "git@", "github.com/", "ssh://")
_IMAGE = "docker-image://"


class Sending:
    """Fills `dockerfile`, `remote`, `contexts`, `trees` of the query, and makes the body of POST /build."""

    def __init__(self, connection: Connection, asked: Parsed, query: Json) -> None:
        self._connection = connection
        self._asked = asked
        self._query = query
        self._trees: dict[str, str] = {}

    def body(self) -> Body:
        from skiff.client import json_text

        self._named()
        body = self._own()
        if self._trees:
            self._query["trees"] = json_text.encode(self._trees).decode()
        return body

    def tree(self, path: str, key: str) -> str:
        """A local directory, there under a token. NotImplementedHere: an engine of another make."""
        token = self._sent(Context(os.path.realpath(path), ""), key)
        if not token:
            raise NotImplementedHere("this engine takes no local directory beside the build's context")
        return token

    def _named(self) -> None:
        from skiff.client import json_text

        contexts: dict[str, str] = {}
        for text in self._asked["build-context"]:
            name, equals, value = text.partition("=")
            if not equals:
                raise InvalidParameter(f"invalid build context: {text}: expected name=value")
            if value.startswith("oci-layout://"):
                raise NotImplementedHere(
                    f"--build-context {name}: skiff takes no OCI layout: load it and name the image"
                )
            if value.startswith(_IMAGE):
                contexts[name] = value.removeprefix(_IMAGE)
            elif value.startswith(_REMOTE):
                contexts[name] = value
            elif os.path.isdir(value):
                self._trees[name] = self.tree(value, os.path.realpath(value))
            else:
                raise InvalidParameter(f"failed to get build context {name}: stat {value}: no such directory")
        if contexts:
            self._query["contexts"] = json_text.encode(contexts).decode()

    def _own(self) -> Body:
        path, file = self._asked.args[0], self._asked["file"]
        if path.startswith(_REMOTE):
            self._query["remote"] = path
            self._query["dockerfile"] = file or None
            return None
        if path == "-":
            if file == "-":
                raise InvalidParameter(
                    "invalid argument: can't use stdin for both build context and dockerfile"
                )
            return _stdin(self._query, file)
        if not os.path.isdir(path):
            raise InvalidParameter(f"unable to prepare context: path {path!r} not found")
        return self._directory(os.path.realpath(path), file)

    def _directory(self, root: str, file: str) -> Body:
        if file == "-":
            return self._with_dockerfile(root, ".dockerfile.stdin", sys.stdin.buffer.read(), None)
        place = os.path.realpath(file or os.path.join(root, "Dockerfile"))
        if not file and not os.path.exists(place) and os.path.exists(os.path.join(root, "dockerfile")):
            place = os.path.join(root, "dockerfile")
        if not os.path.isfile(place):
            raise InvalidParameter(
                "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
                f"lstat {place}: no such file or directory"
            )
        relative = os.path.relpath(place, root)
        ignore = read(f"{place}.dockerignore") if os.path.isfile(f"{place}.dockerignore") else None
        if relative.startswith("../"):
            return self._with_dockerfile(root, ".dockerfile.outside", read(place), ignore)
        context = Context(root, relative)
        self._query["dockerfile"] = relative
        token = self._sent(Context(root, "", own_ignore=context.ignore), root)
        if token:
            return self._dockerfile_alone(read(place), context.ignore, token)
        return self._whole(context)

    def _with_dockerfile(self, root: str, name: str, source: bytes, ignore: bytes | None) -> Body:
        """The Dockerfile is not one of the context's files."""
        self._query["dockerfile"] = name
        extra = {name: source} if ignore is None else {name: source, IGNORE: ignore}
        context = Context(root, "", extra)
        token = self._sent(Context(root, "", own_ignore=context.ignore), root)
        if token:
            return self._dockerfile_alone(source, context.ignore, token)
        return self._whole(context)

    def _sent(self, context: Context, key: str) -> str:
        """The token of the tree; "" when the engine keeps none."""
        from skiff.client.context_sync import Sync

        sync = Sync(context)
        try:
            token = sync.run(
                self._connection, f"{os.uname().nodename}:{os.getuid()}:{key}", self._transfer().through
            )
        except EngineError as error:
            if error.status != 404:
                raise
            return ""
        self._tell(sync.size)
        return token

    def _dockerfile_alone(self, source: bytes, ignore: bytes, token: str) -> bytes:
        from binascii import b2a_base64

        from skiff.client import json_text

        self._trees[""] = token
        sent = {"Dockerfile": source, "Ignore": ignore}
        return json_text.encode({key: b2a_base64(data, newline=False).decode() for key, data in sent.items()})

    def _whole(self, context: Context) -> Iterator[bytes]:
        yield from self._transfer().through(context.tar())
        self._tell(context.size)

    def _transfer(self) -> Transfer:
        return Transfer("Sending build context to Docker daemon ", quiet=self._is_quiet())

    def _is_quiet(self) -> bool:
        return (
            self._asked["quiet"]
            or self._asked["check"]
            or self._asked["progress"] in ("none", "plain", "quiet", "rawjson")
        )

    def _tell(self, size: int) -> None:
        silent = self._asked["quiet"] or self._asked["check"]
        if not silent and self._asked["progress"] not in ("none", "quiet", "rawjson"):
            out = progress_goes(self._asked)
            print(f"Sending build context to Docker daemon  {human.size(size)}", file=out, flush=True)


def _stdin(query: Json, file: str) -> Iterator[bytes]:
    """An archive as it comes, or a lone Dockerfile as an archive."""
    head = sys.stdin.buffer.read(BLOCK)
    if head[257:262] == b"ustar" or head.startswith(_ARCHIVES):
        query["dockerfile"] = file or None

        def passed() -> Iterator[bytes]:
            yield head
            while data := sys.stdin.buffer.read(1 << 16):
                yield data

        return passed()
    query["dockerfile"] = None
    return iter([_file("Dockerfile", head + sys.stdin.buffer.read()) + bytes(2 * BLOCK)])


def _file(name: str, data: bytes) -> bytes:
    return header(b"0", os.fsencode(name), 0o644, len(data), 0) + data + bytes(-len(data) % BLOCK)


def cache_sources(sending: Sending, values: list[str]) -> list[Json]:
    """--cache-from: images, `type=registry,ref=…`, `type=local,src=…` → what the engine is told."""
    found: list[Json] = []
    for text in values:
        if "=" not in text:
            found += [{"type": "image", "ref": name} for name in text.split(",") if name]
            continue
        given = fields(text)
        kind = given.get("type", "")
        if kind == "registry":
            if not given.get("ref"):
                raise InvalidParameter("cache-from type=registry needs ref=")
            found.append({"type": "registry", "ref": given["ref"]})
        elif kind == "local":
            path = given.get("src", "")
            if not os.path.isdir(path):
                continue  # as Docker: a cache that is not there yet is no error
            found.append({"type": "local", "tree": sending.tree(path, os.path.realpath(path))})
        else:
            raise NotImplementedHere(
                f"skiff build takes no cache of type {kind or text!r}: registry or local"
            )
    return found
