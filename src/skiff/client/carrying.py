"""Images from one engine of ours to another: only the blobs that the other lacks go over the wire.

Both ends serve their images by the distribution specification below /skiff (engine/api/distribution.py); we
stand between, because the keys that ssh needs are the user's and not the engine's.

    manifest ─► each blob: there already? else read here, written there ─► manifest, under its tag
"""

from __future__ import annotations

from skiff.client import json_text
from skiff.client.connection import EngineError, quote
from skiff.errors import InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from skiff.client.connection import Connection, Response

    Json = dict[str, Any]
    Words = tuple[str, str, str]

PUSHING = ("Pushing", "Pushed", "Layer already exists")
PULLING = ("Downloading", "Pull complete", "Already exists")
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class Repository:
    """One repository of one engine. name: as people write it. Errors: EngineError, NotFound."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self._connection = connection
        self._base = f"/skiff/v2/{quote(name, b'/')}"

    def check(self) -> None:
        """Raises InvalidParameter when the engine takes no images this way: it is none of ours."""
        try:
            self._ask("GET", "/skiff/v2/").read()
        except EngineError as error:
            if error.status != 404:
                raise
            raise InvalidParameter(
                f"the engine at {self._connection.endpoint.url} is none that images can be carried to or from"
            ) from error

    def tags(self) -> list[str]:
        found = self._ask("GET", f"{self._base}/tags/list").json()
        return [str(tag) for tag in found["tags"]]

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """Its bytes and their media type."""
        response = self._ask("GET", f"{self._base}/manifests/{reference}")
        return response.read(), response.headers.get("content-type", "")

    def holds(self, kind: str, digest: str) -> bool:
        """kind: blobs, manifests."""
        try:
            self._ask("HEAD", f"{self._base}/{kind}/{digest}")
        except EngineError as error:
            if error.status == 404:
                return False
            raise
        return True

    def blob(self, digest: str) -> Iterator[bytes]:
        response = self._ask("GET", f"{self._base}/blobs/{digest}")
        return response.chunks()

    def put_blob(self, digest: str, pieces: Iterator[bytes]) -> None:
        begun = self._ask("POST", f"{self._base}/blobs/uploads/")
        begun.read()
        path = f"{begun.headers['location']}?digest={digest}"
        self._ask("PUT", path, body=pieces, headers={"Content-Type": "application/octet-stream"}).read()

    def put_manifest(self, reference: str, data: bytes, kind: str) -> None:
        path = f"{self._base}/manifests/{reference}"
        self._ask("PUT", path, body=data, headers={"Content-Type": kind}).read()

    def _ask(self, method: str, path: str, **more: Any) -> Response:
        return self._connection.request(method, path, versioned=False, **more)


def carry(source: Repository, target: Repository, reference: str, words: Words) -> Iterator[Json]:
    """Progress of one image's way; the last event has its digest. words: PUSHING or PULLING."""
    data, kind = source.manifest(reference)
    for inner, inner_kind in _inner(source, data, kind):
        yield from _blobs(source, target, inner, words)
        target.put_manifest(_digest(inner), inner, inner_kind)
    if kind not in INDEXES:
        yield from _blobs(source, target, data, words)
    target.put_manifest(reference, data, kind)
    yield {"aux": {"Tag": reference, "Digest": _digest(data), "Size": len(data)}}


def _inner(source: Repository, data: bytes, kind: str) -> Iterator[tuple[bytes, str]]:
    if kind not in INDEXES:
        return
    for entry in json_text.decode(data)["manifests"]:
        inner, inner_kind = source.manifest(entry["digest"])
        if inner_kind in INDEXES:
            raise NotFound(f"{source.name}: {entry['digest']} is an index within an index")
        yield inner, inner_kind


def _blobs(source: Repository, target: Repository, data: bytes, words: Words) -> Iterator[Json]:
    moving, done, here = words
    document = json_text.decode(data)
    for number, part in enumerate([document["config"], *document["layers"]]):
        id = part["digest"][7:19]
        if part.get("urls") or target.holds("blobs", part["digest"]):
            if number:
                yield {"id": id, "status": here, "progressDetail": {}}
            continue
        told: list[int] = []
        yield {"id": id, "status": moving, "progressDetail": {"current": 0, "total": part["size"]}}
        target.put_blob(part["digest"], _counted(source.blob(part["digest"]), told))
        if sum(told) != part["size"]:
            raise NotFound(f"blob {part['digest']} has {sum(told)} bytes, not {part['size']}")
        if number:
            yield {"id": id, "status": done, "progressDetail": {}}


def _counted(pieces: Iterator[bytes], told: list[int]) -> Iterator[bytes]:
    for piece in pieces:
        told.append(len(piece))
        yield piece


def _digest(data: bytes) -> str:
    import hashlib

    return f"sha256:{hashlib.sha256(data).hexdigest()}"
