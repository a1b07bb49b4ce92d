"""What a container's own layer holds for the engine's sake, and how it is told from what its user changed."""

import os
import stat
from collections.abc import Sequence

from msgspec import Struct

from skiff.engine.storage import diff
from skiff.engine.storage.beneath import Found, copy_attributes, look, visible
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter

KINDS = {"C": 0, "A": 1, "D": 2}  # as the API counts them
MOUNTS = "/proc/mounts"
GROUND = frozenset(
    (
        "/.dockerenv",
        "/dev",
        "/dev/console",
        "/dev/mqueue",
        "/dev/pts",
        "/dev/shm",
        "/etc",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/mtab",
        "/etc/resolv.conf",
        "/proc",
        "/sys",
    )
)
"""What every container has for the engine's sake: much of it is made as a place to mount on."""


def lay(directory: str, lowers: Sequence[str]) -> None:
    """What Docker puts into each new container: /.dockerenv, by which programs know where they are; where the
    image has none, /etc/mtab, in which older ones look for mounts (getmntent(3)).

    directory: its own layer; lowers: what that lies on, topmost first.
    """
    os.close(os.open(f"{directory}/.dockerenv", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o755))
    stack = [directory, *lowers]
    place = look(stack, "etc")
    if place is Found.ELSEWHERE or (place is Found.NOTHING and visible(stack, "etc")):
        return  # a link or a file
    if visible(stack, "etc/mtab"):
        return
    if place != directory:
        os.mkdir(f"{directory}/etc", 0o755)
        copy_attributes(lowers, "etc", directory)
    os.symlink(MOUNTS, f"{directory}/etc/mtab")


def written(snapshots: Snapshotter, id: str) -> int:
    """Bytes of what a container's own layer holds, but for what was laid there."""
    key = SnapshotKey(id)
    size = snapshots.usage(key).bytes
    try:
        target = os.readlink(f"{snapshots.directory(key)}/etc/mtab")
    except OSError:  # the image has one, or it is no link any more
        return size
    return size - len(target) if target == MOUNTS else size


class Change(Struct, frozen=True, rename="pascal"):
    """kind: 0 changed, 1 added, 2 deleted. Engine API, ContainerChanges."""

    path: str
    kind: int


def changes(upper: str, lowers: Sequence[str]) -> list[Change]:
    """What upper changes on lowers, without what the engine itself put there."""
    found = (
        diff.changes(upper, lowers)
        if lowers
        else [diff.Change("A", change.path) for change in diff.changes(upper, ())]
    )
    kept: list[diff.Change] = []
    for change in reversed(found):  # what is in a directory comes before it
        if change.path in GROUND and change.kind != "D":
            has_children = bool(kept) and kept[-1].path.startswith(change.path + "/")
            if not has_children and not _differs(upper, lowers, change.path):
                continue
            if change.kind == "A":
                change = diff.Change("C", change.path)
        kept.append(change)
    return [Change(change.path, KINDS[change.kind]) for change in reversed(kept)]


def unchanged_ground(upper: str, lowers: Sequence[str]) -> frozenset[str]:
    """The paths in upper that are there for the engine's sake alone."""
    return frozenset(path for path in GROUND if not _is_users(upper, lowers, path))


def _is_users(upper: str, lowers: Sequence[str], path: str) -> bool:
    """Whether a path of GROUND is in upper because the user changed it, or something in it."""
    try:
        status = os.lstat(upper + path)
    except (FileNotFoundError, NotADirectoryError):
        return True  # it is not there at all
    if stat.S_ISCHR(status.st_mode):
        return True
    if stat.S_ISDIR(status.st_mode):
        children = [f"{path}/{name}" for name in os.listdir(upper + path)]
        if any(child not in GROUND or _is_users(upper, lowers, child) for child in children):
            return True
        if diff.replaced(upper, lowers, path):
            return True
    return _differs(upper, lowers, path)


def _differs(upper: str, lowers: Sequence[str], path: str) -> bool:
    """Whether something that the engine may have made has become another thing than in the image."""
    ours = os.lstat(upper + path)
    for lower in lowers:
        try:
            theirs = os.lstat(lower + path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        same = (ours.st_mode, ours.st_uid, ours.st_gid) == (theirs.st_mode, theirs.st_uid, theirs.st_gid)
        return not same
    if stat.S_ISLNK(ours.st_mode):
        return os.readlink(upper + path) != MOUNTS
    return not stat.S_ISDIR(ours.st_mode) and ours.st_size > 0
