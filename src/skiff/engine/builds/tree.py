"""A file system as its layers together show it, seen from outside: to look into, to read, to copy from.

Several layers are mounted over one another, detached and read-only: no mount table shows it. Nothing that a
tree holds leads out of it: every name is resolved by openat2(2) below the tree's root.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from skiff.engine.storage.overlay import escape
from skiff.errors import InvalidParameter
from skiff.linux import mounts, safepath

_LARGEST = 16 << 20  # bytes of a file that is read whole
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Tree:
    """root: a descriptor of its root directory. Paths are meant from there, with or without a first slash."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._at = ("/", root)
        self._prefix = os.readlink(f"/proc/self/fd/{root}").rstrip("/")

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """A descriptor; symbolic links are followed inside. OSError."""
        return safepath.open_in_root(self.root, path, flags)

    def directory(self, path: str) -> int:
        """A descriptor of a directory, good until the next one is asked for: files are read in order."""
        if path != self._at[0]:
            fd = self.open(path or "/")
            self._leave()
            self._at = (path, fd)
        return self._at[1]

    def close(self) -> None:
        self._leave()
        os.close(self.root)

    def _leave(self) -> None:
        if self._at[1] != self.root:
            os.close(self._at[1])
        self._at = ("/", self.root)

    def canonical(self, path: str) -> str:
        """The path without symbolic links and dots, absolute; what does not exist is kept as it is."""
        tail: list[str] = []
        head = path
        while True:
            try:
                fd = self.open(head or "/")
            except (FileNotFoundError, NotADirectoryError):
                head, _, name = head.rstrip("/").rpartition("/")
                tail.append(name)
                continue
            try:
                found = os.readlink(f"/proc/self/fd/{fd}")[len(self._prefix) :]
            finally:
                os.close(fd)
            whole = os.path.normpath("/".join(["/" + found.strip("/"), *reversed(tail)]))
            return "/" + whole.lstrip("/")

    def status(self, path: str) -> os.stat_result | None:
        """Of what is there, symbolic links followed; None when nothing is."""
        try:
            fd = self.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def is_directory(self, path: str) -> bool:
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def read(self, path: str, most: int = _LARGEST) -> bytes:
        """A regular file of at most so many bytes; nothing when there is none. OSError, InvalidParameter."""
        status = self.status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            return b""
        with open(self.open(path, os.O_RDONLY), "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise InvalidParameter(f"{path} is larger than {most} bytes")
        return data


@contextmanager
def seen(stack: Sequence[str]) -> Iterator[Tree]:
    """The tree that the layer directories show, topmost first; an empty one when there are none."""
    if len(stack) == 1:
        root = os.open(stack[0], _DIRECTORY)
    elif stack:
        options = [f"lowerdir={':'.join(map(escape, stack))}"]
        root = mounts.new_overlay(options, mounts.MOUNT_ATTR_RDONLY)
    else:
        root = mounts.new_filesystem("tmpfs", ("size=0",), mounts.MOUNT_ATTR_RDONLY, "tmpfs")
    tree = Tree(root)
    try:
        yield tree
    finally:
        tree.close()
