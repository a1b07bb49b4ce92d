"""What a container changed on its image: one writable layer, or several after a branching (branches.py)."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from skiff.engine.storage.merging import merge
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import NotImplementedHere

PREFIX = "branch-"  # how the names of committed writable layers begin: no chain ID does


@contextmanager
def changed(snapshots: Snapshotter, id: str, tmp: str) -> Iterator[tuple[str, Sequence[str]]]:
    """What a container changed on its image: (upper directory, lower ones, topmost first).

    After a branching that is more than its writable layer: then a directory in tmp shows it, merged.
    """
    key = SnapshotKey(id)
    own, lowers = [snapshots.directory(key)], snapshots.lowers(key)
    parent = snapshots.info(key).parent
    while parent is not None and parent.startswith(PREFIX):
        own.append(snapshots.directory(parent))
        parent = snapshots.info(parent).parent
    if len(own) == 1:
        with snapshots.change(key) as found:
            yield found
        return
    if not lowers:
        raise NotImplementedHere("what a container changed before a branching is told by overlayfs only")
    os.makedirs(tmp, mode=0o700, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="merged-", dir=tmp)
    try:
        base = lowers[len(own) - 1 :]
        merge(own, base, f"{directory}/fs")
        yield f"{directory}/fs", base
    finally:
        shutil.rmtree(directory)
