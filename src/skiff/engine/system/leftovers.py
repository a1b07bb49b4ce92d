"""What `skiff system check` examines beside the collector's graph: files without rows, rows without files."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from skiff.engine.containers.record import Records
from skiff.engine.images.names import ImageRow
from skiff.engine.storage.content import ContentStore
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.engine.system.check import Examine, Finding, Problem
from skiff.engine.volumes.service import Volumes
from skiff.errors import NotFound
from skiff.oci.digest import Digest
from skiff.paths import DataPaths

ID_LENGTH = 64


class Leftovers:
    """discard: put a directory out of sight, to be deleted later. images: the rows of all images."""

    def __init__(
        self,
        *,
        records: Records,
        bin: Bin,
        content: ContentStore,
        snapshots: Snapshotter,
        volumes: Volumes,
        images: Callable[[], Sequence[ImageRow]],
        data: DataPaths,
        discard: Callable[[object], None],
    ) -> None:
        self._records = records
        self._bin = bin
        self._content = content
        self._snapshots = snapshots
        self._volumes = volumes
        self._images = images
        self._data = data
        self._discard = discard

    def examinations(self) -> Sequence[Examine]:
        return (self.containers, self.layers, self.volumes, self.images)

    def containers(self) -> Iterator[Finding]:
        """Files of containers that neither exist nor can come back."""
        root = str(self._data.containers)
        for name in os.listdir(root) if os.path.isdir(root) else ():
            if len(name) == ID_LENGTH and not self._is_known(name):
                problem = Problem("container", name, "delete: its files are left of a removal")
                yield Finding(problem, partial(self._discard, f"{root}/{name}"))

    def layers(self) -> Iterator[Finding]:
        """Writable layers of nobody, and containers without theirs."""
        active = {info.id for info in self._snapshots.walk() if info.kind == "active"}
        for id in active:
            if len(id) == ID_LENGTH and not self._is_known(id):
                problem = Problem("writable layer", id, "delete: no container has it")
                yield Finding(problem, partial(self._snapshots.remove, SnapshotKey(id)))
        for container in self._records:
            if container.id not in active:
                yield Finding(Problem("container", container.name, "remove it: its files are gone"))

    def volumes(self) -> Iterator[Finding]:
        """Directories without a volume become volumes again: they may hold what somebody wants."""
        for name in self._volumes.strays():
            problem = Problem("volume", name, "take it up: its files are there, its record is not")
            yield Finding(problem, partial(self._volumes.take_up, name))
        for name in self._volumes.missing():
            problem = Problem("volume", name, "forget it: its files are gone")
            yield Finding(problem, partial(self._volumes.forget_missing, name))

    def images(self) -> Iterator[Finding]:
        """Images that lack something can only be fetched again."""
        there = {info.id for info in self._snapshots.walk()}
        for row in self._images():
            lost: list[str] = [layer.chain for layer in row.layers if layer.chain not in there]
            try:
                self._content.info(Digest(row.id))
            except NotFound:
                lost.append(row.id)
            if lost:
                yield Finding(Problem("image", row.id, f"pull or load it again: it lacks {', '.join(lost)}"))

    def _is_known(self, id: str) -> bool:
        return id in self._records or any(entry.key == id for entry in self._bin.of("container"))
