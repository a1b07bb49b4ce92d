"""Who a user is in a container: its passwd and group are read once, and again when they may have changed.

A container that never ran is as its image. Of a running one only its own layer can change: what is there in
place of the two files, and of the directory that holds them, tells.
"""

import os
import stat
import time
from typing import TypeVar

from msgspec import Struct

from skiff.engine.containers import layers
from skiff.engine.containers.record import Container
from skiff.engine.containers.spec import users
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import NotFound

CACHED = 256
SETTLED = 100_000_000  # ns: a file changed so recently may change again under the same time stamp
PLACES = ("etc", "etc/passwd", "etc/group")

K = TypeVar("K")
V = TypeVar("V")
Stamp = tuple[tuple[int, ...], ...]


class _Known(Struct, frozen=True):
    """directory: the container's own layer."""

    directory: str
    stamp: Stamp
    who: users.Identity


class Identities:
    def __init__(self, snapshots: Snapshotter) -> None:
        self._snapshots = snapshots
        self._of_images: dict[tuple[object, ...], users.Identity] = {}
        self._of_containers: dict[tuple[object, ...], _Known] = {}

    def of(self, container: Container, user: str) -> users.Identity:
        """Who that user is in this container. InvalidParameter."""
        if not container.was_started and container.chain is not None:
            return self._in_image(container, user)
        key = (container.id, container.state.started_at, user, container.host.group_add)
        known = self._of_containers.get(key)
        if known is not None and _stamp(known.directory) == known.stamp:
            return known.who
        name = SnapshotKey(container.id)
        own, lowers = self._snapshots.directory(name), self._snapshots.lowers(name)
        stamp = _stamp(own)
        who = _read([own, *lowers], container, user)
        if stamp is not None and _is_settled(stamp) and not any(map(_leads_elsewhere, lowers)):
            _keep(self._of_containers, key, _Known(own, stamp, who))
        return who

    def _in_image(self, container: Container, user: str) -> users.Identity:
        key = (container.chain, user, container.host.group_add)
        who = self._of_images.get(key)
        if who is None:
            name = SnapshotKey(container.id)
            stack = [self._snapshots.directory(name), *self._snapshots.lowers(name)]
            who = _read(stack, container, user)
            _keep(self._of_images, key, who)
        return who


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    if len(kept) >= CACHED:
        kept.clear()
    kept[key] = value


def _read(stack: list[str], container: Container, user: str) -> users.Identity:
    def text(path: str) -> str:
        try:
            return layers.read(stack, path).decode("utf-8", "replace")
        except NotFound:
            return ""

    return users.identity(user, text, container.host.group_add or ())


def _stamp(directory: str) -> Stamp | None:
    """What tells one state of the files from another; None where a link leads to files of any name."""
    found: list[tuple[int, ...]] = []
    for place in PLACES:
        try:
            about = os.lstat(f"{directory}/{place}")
        except (FileNotFoundError, NotADirectoryError):
            found.append(())
            continue
        if stat.S_ISLNK(about.st_mode):
            return None
        found.append((about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    return tuple(found)


def _is_settled(stamp: Stamp) -> bool:
    latest = time.time_ns() - SETTLED
    return all(place[-1] < latest for place in stamp if place)


def _leads_elsewhere(layer: str) -> bool:
    return any(os.path.islink(f"{layer}/{place}") for place in PLACES)
