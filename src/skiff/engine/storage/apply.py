"""Layer tars into snapshots: extraction in a confined helper process, then the commit in order.

The engine never unpacks an archive itself: it has threads and the whole file system. A helper process
(extract.py), started at the first layer and gone after a while without work, forks one confined child per layer.

    draft = layers.extract(blob)                 side by side, in threads
    layers.commit(draft, name, parent)           one after the other, from the bottom up
"""

from typing import BinaryIO

from msgspec import Struct

from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.oci.digest import ChainID, DiffID


class Applied(Struct, frozen=True):
    """What an extraction came to. size: bytes of the uncompressed tar."""

    diff_id: DiffID
    size: int
    entries: int


class Draft(Struct, frozen=True):
    """A layer that is extracted but not committed. Hand it to `commit` or `discard`, once."""

    key: SnapshotKey
    applied: Applied


class Layers:
    """Extracts layers into a snapshotter. Blocking; every method may run in a thread."""

    def __init__(self, snapshots: Snapshotter, *, max_bytes: int | None = None) -> None:
        """max_bytes: refuse a layer that unpacks to more."""
        raise NotImplementedError

    def extract(self, blob: BinaryIO) -> Draft:
        """Extract a layer: gzip, zstd or plain tar, told apart by its first bytes. The caller closes blob.

        Raises HostileArchive, and leaves nothing behind.
        """
        raise NotImplementedError

    def commit(self, draft: Draft, name: ChainID, parent: ChainID | None) -> None:
        """Make the draft a committed snapshot on parent, which must be committed. AlreadyExists: it was before."""
        raise NotImplementedError

    def discard(self, draft: Draft) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let the helper go."""
        raise NotImplementedError
