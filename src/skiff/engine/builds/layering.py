"""A step's changes as a layer: an active snapshot to work on, then its times clamped, its digest, its commit.

The rule: the same files give the same layer. Entries are sorted, and no time is later than the build's epoch.
A step that changed nothing has no layer.
"""

import contextlib
import os
import secrets
import stat
from contextlib import AbstractContextManager

from skiff.engine.images.names import LayerRow
from skiff.engine.storage import diff, hashing
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import AlreadyExists, NotFound
from skiff.oci.digest import ChainID, DiffID
from skiff.oci.image import chain_ids

DRAFT = "build-"  # how the keys of unfinished steps begin; the boot removes those that a crash left


class Layering:
    """Blocking; every method may run in a thread."""

    def __init__(self, snapshots: Snapshotter, leases: Leases) -> None:
        self.snapshots = snapshots
        self._leases = leases

    def begin(self, parent: ChainID | None) -> SnapshotKey:
        """A snapshot to change. End it by `commit` or `discard`."""
        key = SnapshotKey(DRAFT + secrets.token_hex(8))
        self.snapshots.prepare(key, parent)
        return key

    def stack(self, chain: ChainID | None) -> list[str]:
        """The directories of a committed state, topmost first."""
        return [] if chain is None else [self.snapshots.directory(chain), *self.snapshots.lowers(chain)]

    def lease(self) -> AbstractContextManager[HeldLease]:
        """Keeps what is committed under it, until it is known elsewhere."""
        return self._leases.hold()

    def commit(
        self, key: SnapshotKey, parent: ChainID | None, epoch_ns: int, lease: HeldLease
    ) -> LayerRow | None:
        """The layer above parent; None, and no snapshot, when nothing was changed."""
        try:
            size = _clamp(self.snapshots.directory(key), epoch_ns)
            with self.snapshots.change(key) as (upper, lowers):
                if upper != self.snapshots.directory(key):
                    size = _clamp(upper, epoch_ns)
                if size is None:
                    self.discard(key)
                    return None
                diff_id = DiffID(hashing.sha256(diff.upper_layer(upper, lowers)))
            chain = above(parent, diff_id)
            lease.add(chain)
            try:
                self.snapshots.commit(chain, key)
            except AlreadyExists:  # another step came to the same
                self.discard(key)
            return LayerRow(chain, diff_id, size)
        except BaseException:
            self.discard(key)
            raise

    def discard(self, key: SnapshotKey) -> None:
        with contextlib.suppress(NotFound):
            self.snapshots.remove(key)

    def is_committed(self, chain: ChainID) -> bool:
        try:
            return self.snapshots.info(chain).kind == "committed"
        except NotFound:
            return False

    def recover(self) -> None:
        """At boot: what a crash left unfinished goes."""
        for info in list(self.snapshots.walk()):
            if info.id.startswith(DRAFT):
                self.snapshots.remove(SnapshotKey(info.id))


def above(parent: ChainID | None, diff_id: DiffID) -> ChainID:
    """The chain of a layer on parent. OCI image-spec 1.1, config.md § Layer ChainID."""
    return chain_ids([DiffID(parent), diff_id])[-1] if parent else ChainID(diff_id)


def _clamp(root: str, epoch_ns: int) -> int | None:
    """Set later times to epoch_ns. The bytes of all files together; None when there is nothing at all."""
    found = False
    size = 0
    linked: set[int] = set()
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as children:
            for child in children:
                found = True
                status = child.stat(follow_symlinks=False)
                if child.is_dir(follow_symlinks=False):
                    pending.append(child.path)
                elif stat.S_ISREG(status.st_mode):
                    if status.st_nlink > 1:
                        if status.st_ino in linked:
                            continue
                        linked.add(status.st_ino)
                    size += status.st_size
                if status.st_mtime_ns > epoch_ns:
                    os.utime(child.path, ns=(epoch_ns, epoch_ns), follow_symlinks=False)
    return size if found else None
