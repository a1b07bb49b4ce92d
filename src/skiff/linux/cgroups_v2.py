"""Control groups, version 2: one hierarchy, controllers given from the top down. admin-guide/cgroup-v2.rst.

On a hybrid host this hierarchy may have no controllers at all; freezing and killing work nevertheless. A
child enters by CLONE_INTO_CGROUP on the directory.
"""

import os
from typing import Final

from skiff.linux import bpf, inotify
from skiff.linux.control_files import read, write

FIGURES: Final[dict[str, tuple[str, ...]]] = {
    "memory": ("memory.current", "memory.peak", "memory.max", "memory.stat", "memory.events"),
    "unified": ("cpu.stat",),
    "pids": ("pids.current", "pids.max"),
    "io": ("io.stat",),
}


def offered(point: str) -> frozenset[str]:
    """Controllers the hierarchy mounted there can give to groups below it."""
    try:
        return frozenset(read(f"{point}/cgroup.controllers").decode().split())
    except OSError:
        return frozenset()


class Group:
    """One group of the v2 hierarchy.

    controllers: those it may have; eager: from the start, else once delegate() is called. On a hybrid host
    few containers ask for what is left to v2.
    """

    def __init__(self, point: str, path: str, controllers: frozenset[str], *, eager: bool) -> None:
        self.point = point
        self.path = path
        self.controllers = controllers
        self.eager = eager
        self.directory = point + path

    def make(self) -> None:
        try:
            os.mkdir(self.directory, 0o755)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(self.directory, 0o755, exist_ok=True)
        if self.eager and self.controllers:
            have = read(f"{self.directory}/cgroup.controllers").decode().split()
            if not self.controllers.issubset(have):
                self.delegate()

    def delegate(self) -> None:
        """Switch the controllers on in every ancestor.

        One that an ancestor cannot give (it holds processes itself, EBUSY) stays missing: a limit that needs
        it is refused when it is written, because its file does not exist.
        """
        above = self.point
        for part in self.path.strip("/").split("/"):
            for controller in sorted(self.controllers):
                try:
                    write(f"{above}/cgroup.subtree_control", b"+" + controller.encode())
                except OSError:
                    continue
            above = f"{above}/{part}"

    def restrict_devices(self, program: bytes) -> None:
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bpf.replace_device_program(fd, program)
        finally:
            os.close(fd)

    def ask_freeze(self) -> None:
        write(f"{self.directory}/cgroup.freeze", b"1")

    def thaw(self) -> None:
        write(f"{self.directory}/cgroup.freeze", b"0")

    def is_frozen(self) -> bool:
        return b"frozen 1" in read(f"{self.directory}/cgroup.events")

    def kill(self) -> bool:
        """SIGKILL to everything below, atomically (Linux 5.14). False when the kernel cannot."""
        try:
            write(f"{self.directory}/cgroup.kill", b"1")
        except FileNotFoundError:
            return not os.path.isdir(self.directory)
        return True

    def oom_kills(self) -> int:
        try:
            text = read(f"{self.directory}/memory.events")
        except FileNotFoundError:
            return 0
        for line in text.splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def oom_event(self) -> int:
        """An inotify descriptor: the kernel marks memory.events as modified when a count in it rises."""
        return inotify.watch(inotify.IN_MODIFY, f"{self.directory}/memory.events")
