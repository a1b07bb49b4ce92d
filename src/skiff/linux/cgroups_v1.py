"""Control groups, version 1: one hierarchy per controller (or per few). cgroups(7), admin-guide/cgroup-v1/.

Nothing here writes `cgroup.procs`: that waits for an RCU grace period (5–15 ms). A task that writes "0" into
`tasks` itself moves at once.
"""

import os
from typing import Final

from skiff.linux.control_files import read, write

CONTROLLERS: Final = frozenset(
    ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
) | {"net_cls", "net_prio", "hugetlb", "perf_event", "rdma", "misc"}

FIGURES: Final[dict[str, tuple[str, ...]]] = {
    "memory": (
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.limit_in_bytes",
        "memory.failcnt",
        "memory.stat",
    ),
    "cpuacct": ("cpuacct.usage", "cpuacct.usage_percpu", "cpuacct.stat"),
    "cpu": ("cpu.stat",),
    "pids": ("pids.current", "pids.max"),
    "blkio": (
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_serviced_recursive",
        "blkio.throttle.io_service_bytes",
        "blkio.throttle.io_serviced",
    ),
}


class Group:
    """One group in each v1 hierarchy.

    mounts: controller (or `name=…`) → mount point. path: below each mount point, `/skiff/x`.
    """

    def __init__(self, mounts: dict[str, str], path: str) -> None:
        self.mounts = mounts
        self.path = path
        self.by_controller = {controller: point + path for controller, point in mounts.items()}
        self.directories = tuple(dict.fromkeys(self.by_controller.values()))
        self.first = self.directories[0]

    def make(self) -> None:
        for directory in self.directories:
            try:
                os.mkdir(directory, 0o755)
            except FileExistsError:
                pass
            except FileNotFoundError:
                os.makedirs(directory, 0o755, exist_ok=True)
        cpuset = self.mounts.get("cpuset")
        if cpuset:
            _inherit(cpuset, self.path)

    def open_tasks(self) -> tuple[int, ...]:
        """A writable `tasks` of each hierarchy, close-on-exec."""
        opened: list[int] = []
        try:
            for directory in self.directories:
                opened.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        return tuple(opened)

    def ask_freeze(self) -> None:
        write(f"{self.by_controller['freezer']}/freezer.state", b"FROZEN")

    def thaw(self) -> None:
        write(f"{self.by_controller['freezer']}/freezer.state", b"THAWED")

    def is_frozen(self) -> bool:
        return read(f"{self.by_controller['freezer']}/freezer.state").strip() == b"FROZEN"

    def oom_kills(self) -> int:
        """Since Linux 4.13 memory.oom_control counts them; before that, 0."""
        for line in read(f"{self.by_controller['memory']}/memory.oom_control").splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
        return 0

    def oom_event(self) -> int:
        """An eventfd that counts out-of-memory situations; cgroup-v1/memory.rst § OOM Control."""
        memory = self.by_controller["memory"]
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{memory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(f"{memory}/cgroup.event_control", b"%d %d" % (event, control))
            finally:
                os.close(control)
        except OSError:
            os.close(event)
            raise
        return event


def _inherit(point: str, path: str) -> None:
    """Give a cpuset group its parent's processors and memory nodes: an empty one lets no task in (ENOSPC).

    Its ancestors may be empty too, so from the top down; usually one read finds that nothing is to be done,
    because cgroup.clone_children makes the kernel copy them at mkdir.
    """
    if read(f"{point}{path}/cpuset.cpus").strip() and read(f"{point}{path}/cpuset.mems").strip():
        return
    above = point
    for part in path.strip("/").split("/"):
        here = f"{above}/{part}"
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not read(f"{here}/{name}").strip():
                write(f"{here}/{name}", read(f"{above}/{name}").strip())
        if here != point + path:
            write(f"{here}/cgroup.clone_children", b"1")
        above = here
