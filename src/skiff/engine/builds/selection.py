"""Which files COPY, ADD and bind mounts take: from patterns to a list, with what they hold.

One walk serves the cache key (parts) and the copy itself (copying.py). Times are no part of a key: a touched
file is the same file.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from skiff.docker import glob
from skiff.engine.builds import patterns
from skiff.engine.builds.keys import Part
from skiff.engine.builds.tree import Tree
from skiff.errors import InvalidParameter
from skiff.linux import trees

_PIECE = 1 << 20
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Excluded = Callable[[str], bool]


class NoSuchFile(InvalidParameter):
    """What is to be taken is not there: `stat a/b: file does not exist`."""


class Node(Struct, frozen=True):
    """One file. path: in its tree, absolute; name: below the selection's place, "" for itself."""

    path: str
    name: str
    status: os.stat_result
    target: str = ""  # of a symbolic link

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


class Selected(Struct, frozen=True):
    """What one match of a pattern stands for: nodes[0] is the match itself, symbolic links followed.

    place: where it goes below the destination with --parents, else its last name.
    """

    place: str
    nodes: tuple[Node, ...]

    @property
    def top(self) -> Node:
        return self.nodes[0]


def select(
    tree: Tree, wanted: Sequence[str], excluded: Excluded | None = None, *, parents: bool = False
) -> list[Selected]:
    """In the order of the patterns, sorted within each. A glob may match nothing, else NoSuchFile."""
    found: list[Selected] = []
    for pattern in wanted:
        names = patterns.parts(pattern)
        pivot = _pivot(pattern) if parents else 0
        matched = sorted(_matches(tree, names)) if patterns.is_pattern(pattern) else [tuple(names)]
        for match in matched:
            one = _selected(tree, match, excluded, pivot if parents else None)
            if one is not None:
                found.append(one)
    return found


def _pivot(pattern: str) -> int:
    """How many parts stand before a `.` in the middle: with --parents they are left out."""
    before, middle, _ = ("/" + pattern.lstrip("/")).partition("/./")
    return len(patterns.parts(before)) if middle else 0


def _matches(tree: Tree, wanted: Sequence[str]) -> Iterator[tuple[str, ...]]:
    pending: list[tuple[str, ...]] = [()]
    for depth, part in enumerate(wanted):
        following: list[tuple[str, ...]] = []
        last = depth == len(wanted) - 1
        for above in pending:
            if not patterns.is_pattern(part):
                following.append((*above, part))
                continue
            try:
                fd = tree.open("/" + "/".join(above), os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                following += [(*above, name) for name in os.listdir(fd) if glob.matches(part, name)]
            finally:
                os.close(fd)
        pending = following
        if last:
            break
    for match in pending:
        if tree.status("/" + "/".join(match)) is not None:
            yield match


def _selected(
    tree: Tree, match: tuple[str, ...], excluded: Excluded | None, pivot: int | None
) -> Selected | None:
    shown = "/".join(match)
    try:
        path = tree.canonical("/" + shown)
        fd = tree.open(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchFile(f"stat {shown}: file does not exist") from None
    try:
        top = Node(path, "", os.fstat(fd))
    finally:
        os.close(fd)
    place = "/".join(match[pivot:]) if pivot is not None else (match[-1] if match else "")
    if not top.is_directory:
        if excluded is not None and excluded(place.rpartition("/")[2]):
            return None
        return Selected(place, (top,))
    nodes = [top]
    nodes += _below(tree.open(path, os.O_RDONLY | os.O_DIRECTORY), path.rstrip("/"), excluded)
    return Selected(place, tuple(nodes))


class _Level(NamedTuple):
    """A directory on the way down, and what is left of it. at: its own place among the found."""

    fd: int
    path: str
    name: str
    left: list[tuple[str, os.stat_result]]
    at: int
    is_skipped: bool


def _below(fd: int, path: str, excluded: Excluded | None) -> list[Node]:
    """All below a directory, whose descriptor is closed; sorted, each directory before what is in it.

    An excluded directory is there for what is not excluded in it. No recursion: trees may be deep.
    """
    found: list[Node] = []
    levels = [_Level(fd, path, "", _listed(fd), -1, False)]
    try:
        while levels:
            level = levels[-1]
            if not level.left:
                os.close(levels.pop().fd)
                if level.is_skipped and len(found) == level.at + 1:
                    found.pop()
                continue
            one, status = level.left.pop()
            name = f"{level.name}/{one}" if level.name else one
            place = f"{level.path}/{one}"
            is_skipped = excluded is not None and excluded(name)
            if stat.S_ISDIR(status.st_mode):
                deeper = os.open(one, _STEP, dir_fd=level.fd)
                levels.append(_Level(deeper, place, name, _listed(deeper), len(found), is_skipped))
            elif is_skipped:
                continue
            target = os.readlink(one, dir_fd=level.fd) if stat.S_ISLNK(status.st_mode) else ""
            found.append(Node(place, name, status, target))
    finally:
        for level in levels:
            os.close(level.fd)
    return found


def _listed(fd: int) -> list[tuple[str, os.stat_result]]:
    """The last name first."""
    with os.scandir(fd) as scan:
        return sorted(((child.name, child.stat(follow_symlinks=False)) for child in scan), reverse=True)


def content_parts(
    tree: Tree, selected: Sequence[Selected], sums: Mapping[str, str] | None = None, *, owners: bool
) -> list[Part]:
    """One part for each file: kind, mode, content; owners too where they are kept.

    sums: what is known already, by path without the first slash: SHA-256 of regular files.
    """
    parts = []
    for one in selected:
        for node in one.nodes:
            shown = f"{one.place}/{node.name}".strip("/") if node.name else one.place or "."
            value = _value(tree, node, sums or {})
            if owners:
                value += f" {node.status.st_uid}:{node.status.st_gid}"
            parts.append(Part(f"file {_text(shown)}", value))
    return parts


def _text(name: str) -> str:
    """A name as text that can be written down: one that is not UTF-8 in quotes, and so one that has them."""
    return ascii(name) if name.startswith(("'", '"')) or not _is_utf8(name) else name


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _value(tree: Tree, node: Node, sums: Mapping[str, str]) -> str:
    mode = node.status.st_mode
    if stat.S_ISDIR(mode):
        return "directory" if not node.name else f"directory {stat.S_IMODE(mode):o}"
    if stat.S_ISLNK(mode):
        return f"link {_text(node.target)}"
    if stat.S_ISREG(mode):
        known = sums.get(node.path[1:]) or _digest(tree, node.path)
        return f"sha256:{known} {stat.S_IMODE(mode):o}"
    return f"special {mode:o} {node.status.st_rdev}"


def _digest(tree: Tree, path: str) -> str:
    fd = tree.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    digest = hashlib.sha256()
    try:
        for piece in iter(partial(os.read, fd, _PIECE), b""):
            digest.update(piece)
    finally:
        os.close(fd)
    return digest.hexdigest()


def newest(root: str) -> int:
    """The latest mtime of the files below a directory, in nanoseconds; 0 when there is none."""
    return max((file.st_mtime_ns for file in trees.files(root)), default=0)
