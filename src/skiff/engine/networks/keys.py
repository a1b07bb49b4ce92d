"""Sandbox keys: files by which other programs join a container's network namespace, as Docker's SandboxKey.

A key is a bind mount, and a mount costs whoever makes mount namespaces: each new container copies them all.
So a key is made when somebody asks for it, and goes with its container. It keeps the namespace meanwhile.
"""

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Final

from skiff.linux.mounts import MS_BIND, mount, unmount

log = logging.getLogger(__name__)
SHORT: Final = 12  # characters of the id, as in Docker's


class SandboxKeys:
    """directory: where the keys are; it is made with the first."""

    def __init__(self, directory: PurePath) -> None:
        self._directory = directory
        self._made: dict[str, int] = {}  # container → pid

    def path(self, id: str, pid: int) -> str:
        """The key of the container whose init is that process; "" when it has just ended. OSError."""
        path = self._path(id)
        if self._made.get(id) == pid:
            return path
        try:
            self._make(path, pid)
        except FileNotFoundError:
            return ""
        self._made[id] = pid
        return path

    def _make(self, path: str, pid: int) -> None:
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        try:
            mount(f"/proc/{pid}/ns/net", path, None, MS_BIND)
        except OSError:
            os.unlink(path)
            raise

    def has(self, id: str) -> bool:
        return id in self._made

    def remove(self, id: str) -> None:
        """No error when there is none. Blocks for some milliseconds when there is one."""
        if self._made.pop(id, None) is not None:
            self._remove(self._path(id))

    def settle(self, running: Mapping[str, int]) -> None:
        """At boot: keep the keys of containers that run (by id: their pid), remove the others."""
        kept = {self._path(id): (id, pid) for id, pid in running.items()}
        with suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                path = str(self._directory / name)
                id, pid = kept.get(path, ("", 0))
                if id and _is_namespace_of(path, pid):
                    self._made[id] = pid
                else:
                    self._remove(path)

    def _path(self, id: str) -> str:
        return str(self._directory / id[:SHORT])

    def _remove(self, path: str) -> None:
        with suppress(OSError):  # not mounted: an engine died between making and mounting
            unmount(path)
        try:
            os.unlink(path)
        except OSError as error:
            log.warning("a sandbox key stays: %s", error)


def _is_namespace_of(path: str, pid: int) -> bool:
    try:
        mine, theirs = os.stat(path), os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return False
    return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino)
