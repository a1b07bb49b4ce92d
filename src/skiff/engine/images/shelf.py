"""What others pushed here that no image tells: manifests and indexes as they came, tags of what cannot run.

The names of images stay the truth: a tag that means an image is theirs (names.py). Here is the rest of a
registry's memory. What no tag leads to is let go when a day has passed since it came; until then it is
reached by digest.
"""

import time
from collections.abc import Iterable, Iterator

from msgspec import Struct

from skiff.engine.storage.state import StateStore
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor, Index, Manifest

KEPT_SECONDS = 24 * 3600


class ManifestRow(Struct, frozen=True, kw_only=True):
    """One manifest or index of one repository; its bytes are a blob.

    needs: the blobs and manifests that it names. subject: the manifest that it says something about.
    artifact: its artifact type, for those who ask what refers to the subject. came: Unix seconds.
    """

    media_type: str
    size: int
    needs: tuple[Digest, ...]
    subject: Digest | None = None
    artifact: str = ""
    annotations: dict[str, str] | None = None
    came: float = 0.0


class TagRow(Struct, frozen=True):
    manifest: Digest


class Shelf:
    """Repositories are full names: `docker.io/team/app`. Blocking, but rows are in memory."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._manifest_table = state.table("shelf_manifest", ManifestRow)
        self._tag_table = state.table("shelf_tag", TagRow)
        self._manifests = {_parted(key, "@"): row for key, row in self._manifest_table.all()}
        self._tags = {_parted(key, ":"): row.manifest for key, row in self._tag_table.all()}

    def get(self, repository: str, digest: str) -> ManifestRow | None:
        return self._manifests.get((repository, digest))

    def put(self, repository: str, digest: Digest, row: ManifestRow, tag: str = "") -> None:
        """tag: what it is called here as well."""
        with self._state.transaction():
            self._manifest_table.put(f"{repository}@{digest}", row)
            if tag:
                self._tag_table.put(f"{repository}:{tag}", TagRow(digest))
        self._manifests[repository, digest] = row
        if tag:
            self._tags[repository, tag] = digest

    def forget(self, repository: str, digest: str) -> None:
        """The manifest, and the tags that mean it."""
        tags = [tag for (where, tag), meant in self._tags.items() if where == repository and meant == digest]
        with self._state.transaction():
            self._manifest_table.delete(f"{repository}@{digest}")
            for tag in tags:
                self._tag_table.delete(f"{repository}:{tag}")
        self._manifests.pop((repository, digest), None)
        for tag in tags:
            del self._tags[repository, tag]

    def tag(self, repository: str, tag: str) -> Digest | None:
        return self._tags.get((repository, tag))

    def untag(self, repository: str, tag: str) -> None:
        self._tag_table.delete(f"{repository}:{tag}")
        self._tags.pop((repository, tag), None)

    def tags(self, repository: str) -> list[str]:
        return [tag for where, tag in self._tags if where == repository]

    def repositories(self) -> set[str]:
        """Those that have something."""
        return {where for where, _ in [*self._manifests, *self._tags]}

    def referrers(self, repository: str, subject: str) -> Iterator[tuple[Digest, ManifestRow]]:
        """The manifests that say something about that one."""
        for (where, digest), row in list(self._manifests.items()):
            if where == repository and row.subject == subject:
                yield Digest(digest), row

    def needed(self) -> set[str]:
        """Every blob that some manifest here names, or is: nobody deletes those by hand."""
        found: set[str] = set()
        for (_, digest), row in list(self._manifests.items()):
            found |= {digest, *row.needs}
        return found

    # -- what the collector asks

    def roots(self, now: float | None = None) -> set[str]:
        """What tags mean, and what came less than a day ago."""
        since = (time.time() if now is None else now) - KEPT_SECONDS
        recent = {digest for (_, digest), row in list(self._manifests.items()) if row.came >= since}
        return {*recent, *self._tags.values()}

    def edges(self) -> dict[str, list[str]]:
        """From a manifest to what it names, and from a subject to what is said about it."""
        found: dict[str, list[str]] = {}
        for (_, digest), row in list(self._manifests.items()):
            found.setdefault(digest, []).extend(row.needs)
            if row.subject:
                found.setdefault(row.subject, []).append(digest)
        return found

    def settle(self, here: Iterable[str]) -> None:
        """Forget the manifests whose bytes are not here any more."""
        known = set(here)
        for repository, digest in [key for key in self._manifests if key[1] not in known]:
            self.forget(repository, digest)


def row(document: Manifest | Index, media_type: str, size: int, now: float) -> ManifestRow:
    """What is to be remembered of a manifest. Pure."""
    if isinstance(document, Manifest):
        parts: tuple[Descriptor, ...] = (document.config, *document.layers)
        artifact = document.artifact_type or document.config.media_type
    else:
        parts, artifact = document.manifests, document.artifact_type or ""
    return ManifestRow(
        media_type=media_type,
        size=size,
        needs=tuple(dict.fromkeys(one.digest for one in parts if not one.urls)),
        subject=document.subject.digest if document.subject else None,
        artifact=artifact,
        annotations=document.annotations,
        came=now,
    )


def _parted(key: str, separator: str) -> tuple[str, str]:
    """A repository has neither: `docker.io/x@sha256:…` and `localhost:5000/x:1` part where it ends."""
    repository, _, rest = key.partition("@") if separator == "@" else key.rpartition(":")
    return repository, rest
