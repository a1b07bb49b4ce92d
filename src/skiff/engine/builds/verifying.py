"""--verify: two builds of the same thing, compared file by file."""

import filecmp
import os
import stat
from collections.abc import Iterator, Sequence

from skiff.engine.builds.layering import Layering
from skiff.engine.images.names import LayerRow

_MOST = 50  # lines


def differences(layering: Layering, first: Sequence[LayerRow], second: Sequence[LayerRow]) -> list[str]:
    """What differs, a line each: `layer 3: /etc/x: content`. Blocking."""
    found: list[str] = []
    if len(first) != len(second):
        found.append(f"{len(first)} layers, then {len(second)}")
    for number, (one, other) in enumerate(zip(first, second, strict=False), 1):
        if one.diff_id == other.diff_id:
            continue
        here, there = layering.snapshots.directory(one.chain), layering.snapshots.directory(other.chain)
        lines = [f"layer {number}: {line}" for line in _tree(here, there, "")]
        found += lines
        break  # what stands on a layer that differs says nothing of its own
    return found[:_MOST] or ["the configurations differ"]


def _tree(here: str, there: str, path: str) -> Iterator[str]:
    left, right = set(os.listdir(here + path)), set(os.listdir(there + path))
    for name in sorted(left | right):
        below = f"{path}/{name}"
        if name not in right or name not in left:
            yield f"{below}: only in the {'first' if name in left else 'second'} build"
            continue
        one, other = os.lstat(here + below), os.lstat(there + below)
        if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
            yield f"{below}: kind"
            continue
        if stat.S_IMODE(one.st_mode) != stat.S_IMODE(other.st_mode):
            yield f"{below}: mode {stat.S_IMODE(one.st_mode):o}, then {stat.S_IMODE(other.st_mode):o}"
        if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid):
            yield f"{below}: owner {one.st_uid}:{one.st_gid}, then {other.st_uid}:{other.st_gid}"
        if int(one.st_mtime) != int(other.st_mtime):
            yield f"{below}: time"
        if stat.S_ISDIR(one.st_mode):
            yield from _tree(here, there, below)
        elif stat.S_ISLNK(one.st_mode):
            if os.readlink(here + below) != os.readlink(there + below):
                yield f"{below}: target"
        elif stat.S_ISREG(one.st_mode) and not filecmp.cmp(here + below, there + below, shallow=False):
            yield f"{below}: content"
