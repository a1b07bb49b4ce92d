"""Which control-group hierarchies are here — v2, v1 or both (hybrid) — behind one interface.

No policy: what to write is decided in runtime/isolation/cgroup.py. A group is a path such as `/skiff/<id>`,
the same in every hierarchy. Nobody writes another's pid: that would wait for an RCU grace period.
"""

import os
import select
import time
from collections.abc import Iterable
from functools import cached_property
from typing import Final, NamedTuple

from skiff.errors import InvalidParameter
from skiff.linux import cgroups_v1, cgroups_v2

MOUNTINFO: Final = "/proc/self/mountinfo"
# Hierarchies that limit nothing, but in which a container has its own group so that it sees only itself.
NAMED: Final = "name="

_LATENESS_MS: Final = 20

Write = tuple[str, str, str]  # controller (or "unified"), file, value


class Layout(NamedTuple):
    """Where the hierarchies are mounted.

    v1: controller → mount point; named hierarchies as `name=systemd`. Controllers may share a point.
    v2: mount point of cgroup2, or "". v2_controllers: those v2 offers to its children.
    """

    v1: dict[str, str]
    v2: str
    v2_controllers: frozenset[str]

    @property
    def version(self) -> int:
        """2 when limits are set through v2, else 1 — as `docker info` shows it."""
        return 1 if any(not name.startswith(NAMED) for name in self.v1) or not self.v2 else 2

    @property
    def controllers(self) -> frozenset[str]:
        """Every controller that a limit can be set on here."""
        return frozenset(name for name in self.v1 if not name.startswith(NAMED)) | self.v2_controllers


class Tickets(NamedTuple):
    """How a child gets into a group.

    tasks: descriptors into which the child itself writes b"0" (v1).
    directory: for CLONE_INTO_CGROUP, or -1 (v2).
    """

    tasks: tuple[int, ...]
    directory: int

    def close(self) -> None:
        for fd in self.tasks:
            os.close(fd)
        if self.directory >= 0:
            os.close(self.directory)


def layout(mountinfo: str | None = None) -> Layout:
    """What is mounted here, read from mountinfo(5) text, by default this process's own.

    OSError if the text cannot be read. A layout without any hierarchy is possible; create() refuses it.
    """
    if mountinfo is None:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
            mountinfo = file.read()
    v1: dict[str, str] = {}
    v2 = ""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3 or fields[3].startswith("/.."):
            continue
        point = _unescape(fields[4])
        if kind[0] == "cgroup2":
            v2 = v2 or point
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                if option in cgroups_v1.CONTROLLERS or option.startswith(NAMED):
                    v1.setdefault(option, point)
    return Layout(v1, v2, cgroups_v2.offered(v2) - v1.keys() if v2 else frozenset())


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def checked_path(path: str) -> str:
    """The path of a group: absolute, without `.` and `..`; InvalidParameter otherwise.

    `slice:prefix:name` is systemd's way of naming a group; this runtime drives the cgroup files itself.
    """
    if path.count(":") == 2 and "/" not in path.split(":")[0]:
        raise InvalidParameter(
            f"cgroup path {path!r}: systemd-style paths are not supported; expected /parent/name"
        )
    if "\0" in path or ".." in path.split("/") or not path.strip("/"):
        raise InvalidParameter(f"invalid cgroup path {path!r}: expected /parent/name")
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def create(here: Layout, path: str) -> "Group":
    """Make the group (and its parents) in every hierarchy. One that exists already is used as it is.

    OSError names the directory. Undoes itself when it fails half-way.
    """
    group = existing(here, path)
    if not here.v1 and not here.v2:
        raise FileNotFoundError(2, "no control groups are mounted", "/sys/fs/cgroup")
    try:
        group.make()
    except BaseException:
        group.destroy(patience=0)
        raise
    return group


def existing(here: Layout, path: str) -> "Group":
    """The group of that path, without a look whether it exists."""
    return Group(here, checked_path(path))


class Group:
    """One group in every hierarchy."""

    def __init__(self, here: Layout, path: str) -> None:
        self.layout = here
        self.path = path

    @cached_property
    def v1(self) -> cgroups_v1.Group | None:
        return cgroups_v1.Group(self.layout.v1, self.path) if self.layout.v1 else None

    @cached_property
    def v2(self) -> cgroups_v2.Group | None:
        here = self.layout
        if not here.v2:
            return None
        return cgroups_v2.Group(here.v2, self.path, here.v2_controllers, eager=here.version == 2)

    def make(self) -> None:
        if self.v1:
            self.v1.make()
        if self.v2:
            self.v2.make()

    def exists(self) -> bool:
        return any(os.path.isdir(directory) for directory in self.directories())

    def directories(self) -> tuple[str, ...]:
        """Every directory of this group, v1 before v2."""
        return (*(self.v1.directories if self.v1 else ()), *((self.v2.directory,) if self.v2 else ()))

    def directory(self, controller: str) -> str:
        """Where the files of a controller are, or "" when the controller is not here."""
        if self.v1 and controller in self.v1.by_controller:
            return self.v1.by_controller[controller]
        if self.v2 and (controller in self.layout.v2_controllers or controller == "unified"):
            return self.v2.directory
        return ""

    def apply(self, writes: Iterable[Write]) -> None:
        """Write values in this order.

        InvalidParameter when a controller is not here; OSError with the file when the kernel refuses a value.
        """
        opened, fd = "", -1
        try:
            for controller, name, value in writes:
                directory = self.directory(controller)
                if not directory:
                    raise InvalidParameter(
                        f"cannot set {name}: the {controller} controller is not available here"
                    )
                path = f"{directory}/{name}"
                if path != opened:
                    if fd >= 0:
                        os.close(fd)
                    opened, fd = "", -1
                    fd = self._open(path, controller, name)
                    opened = path
                try:
                    os.write(fd, value.encode())
                except OSError as error:
                    raise OSError(
                        error.errno, f"write {value!r}: {os.strerror(error.errno or 0)}", path
                    ) from None
        finally:
            if fd >= 0:
                os.close(fd)

    def _open(self, path: str, controller: str, name: str) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(path)):
                raise
        if self.v2 and path.startswith(self.v2.directory + "/") and not self.v2.eager:
            self.v2.delegate()
            try:
                return os.open(path, flags)
            except FileNotFoundError:
                pass
        raise InvalidParameter(f"cannot set {name}: this kernel's {controller} controller has no such file")

    def restrict_devices(self, program: bytes) -> None:
        """Attach a device program (v2). The one attached before is replaced without a gap."""
        if not self.v2:
            raise InvalidParameter("cannot restrict devices: cgroup2 is not mounted")
        self.v2.restrict_devices(program)

    def tickets(self) -> Tickets:
        """Open what a child needs to join. The caller closes them; all are close-on-exec."""
        tasks = self.v1.open_tasks() if self.v1 else ()
        directory = os.open(self.v2.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if self.v2 else -1
        return Tickets(tasks, directory)

    def open_of(self, pid: int) -> int:
        """The v2 directory in which that process is, as in Tickets. OSError when it is gone."""
        assert self.v2
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            path = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
        return os.open(self.v2.point + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """Pids (as seen from here) of every process in the group and in groups below it."""
        directory = self.v2.directory if self.v2 else self.v1.first if self.v1 else ""
        found: list[int] = []
        for below, _, _ in os.walk(directory):
            try:
                with open(f"{below}/cgroup.procs", "rb") as file:
                    found.extend(int(line) for line in file)
            except (FileNotFoundError, OSError):
                continue  # the group went away meanwhile
        return found

    def freeze(self, *, patience: float = 10.0) -> None:
        """Stop every process. Returns once all stand still; else TimeoutError, and all thawed."""
        freezer = self._freezer()
        deadline = time.monotonic() + patience
        pause = 0.0005
        freezer.ask_freeze()
        while not freezer.is_frozen():
            if time.monotonic() > deadline:
                freezer.thaw()
                raise TimeoutError(110, "processes do not freeze", self.path)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
            freezer.ask_freeze()  # v1 may need to be asked again for a process that forked meanwhile

    def thaw(self) -> None:
        self._freezer().thaw()

    def is_frozen(self) -> bool:
        return self._freezer().is_frozen()

    def _freezer(self) -> cgroups_v1.Group | cgroups_v2.Group:
        if self.v1 and "freezer" in self.v1.by_controller:
            return self.v1
        if self.v2:
            return self.v2
        raise InvalidParameter("cannot freeze: the freezer controller is not available here")

    def signal_all(self, number: int) -> None:
        """Send a signal to every process; SIGKILL reaches also those that are being forked meanwhile."""
        if number == 9 and self.v2 and self.v2.kill():
            self._let_die()
            return
        sent: set[int] = set()
        while fresh := set(self.pids()) - sent:
            for pid in fresh:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
            sent |= fresh
            if number != 9:
                return
        if number == 9:
            self._let_die()

    def _let_die(self) -> None:
        """Thaw: a process frozen by the v1 freezer does not even die."""
        if self.v1 and "freezer" in self.v1.by_controller:
            try:
                self.v1.thaw()
            except FileNotFoundError:
                pass  # the group is gone, and all in it

    def read(self, controller: str, name: str) -> str:
        """The text of one file. FileNotFoundError when the controller or the file is not here."""
        directory = self.directory(controller)
        if not directory:
            raise FileNotFoundError(2, f"the {controller} controller is not available here", name)
        with open(f"{directory}/{name}", encoding="ascii", errors="replace") as file:
            return file.read()

    def figures(self) -> dict[str, str]:
        """File name → its raw text, for everything that `stats` shows. What is not here is left out."""
        found: dict[str, str] = {}
        for controllers, part in ((cgroups_v1.FIGURES, self.v1), (cgroups_v2.FIGURES, self.v2)):
            for controller, names in controllers.items() if part else ():
                directory = self.directory(controller)
                if not directory or (part is self.v2) != (
                    self.v2 is not None and directory == self.v2.directory
                ):
                    continue
                for name in names:
                    if name in found:
                        continue  # cpu.stat is in both hierarchies; the one that limits tells of it
                    try:
                        with open(f"{directory}/{name}", encoding="ascii") as file:
                            found[name] = file.read()
                    except OSError:
                        continue  # not every kernel has every file; memory.peak of the root, …
        return found

    def oom_kills(self) -> int:
        """How many processes the kernel killed here for want of memory; 0 without the controller."""
        if self.v1 and "memory" in self.v1.by_controller:
            return self.v1.oom_kills()
        return self.v2.oom_kills() if self.v2 else 0

    def oom_event(self) -> int:
        """A descriptor that becomes readable when memory runs out; -1 without the memory controller."""
        if self.v1 and "memory" in self.v1.by_controller:
            return self.v1.oom_event()
        if self.v2 and "memory" in self.layout.v2_controllers:
            return self.v2.oom_event()
        return -1

    def destroy(self, *, patience: float = 2.0) -> None:
        """Remove the group everywhere, with groups below it. Nothing there is fine.

        A dead process leaves its group a moment after it is reaped, so a busy one is tried again for
        `patience` seconds; then OSError(EBUSY).
        """
        deadline = time.monotonic() + patience
        failed: OSError | None = None
        for directory in self.directories():
            try:
                _remove(directory, deadline)
            except OSError as error:
                failed = failed or error
        if failed:
            raise failed


class OomWatch:
    """Readable when memory ran out in the group. Owns the descriptor, which is its oom_event.

    seen: how many were killed in it before.
    """

    def __init__(self, group: Group, fd: int, seen: int = 0) -> None:
        self.group = group
        self.fd = fd
        self.seen = seen

    def fileno(self) -> int:
        return self.fd

    def happened(self) -> bool:
        """Drain the descriptor; True when the kernel killed since the last call.

        False also for the event that comes with the removal of the group.
        """
        told = bool(select.select([self.fd], [], [], 0)[0])
        if told:
            os.read(self.fd, 4096)
        try:
            kills = self.group.oom_kills()
            for _ in range(_LATENESS_MS if told else 0):
                if kills > self.seen:
                    break
                time.sleep(0.001)  # v1 tells that memory is out a moment before it counts the victim
                kills = self.group.oom_kills()
        except OSError:
            return False
        before, self.seen = self.seen, kills
        return kills > before

    def close(self) -> None:
        os.close(self.fd)


def join(tasks: Iterable[int]) -> None:
    """Move the calling task into the groups of these `tasks` descriptors (Tickets.tasks).

    OSError says so when the task is scheduled in real time: a v1 cpu group without budget refuses it.
    """
    for fd in tasks:
        try:
            os.write(fd, b"0")
        except OSError as error:
            if error.errno == 22 and os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
                raise OSError(
                    22, "a process with real-time scheduling cannot join a cpu group without real-time budget"
                ) from None
            raise


def _remove(directory: str, deadline: float) -> None:
    pause = 0.0005
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != 16:
                raise
            try:
                below = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
            except FileNotFoundError:
                return
            for path in below:
                _remove(path, deadline)
            if not below:
                if time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
