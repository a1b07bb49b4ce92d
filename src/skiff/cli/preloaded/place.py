"""A process's place: all that a program has from whoever starts it, and how to take another's.

It is read from the kernel (proc(5)), not from anybody's words: arguments, rights, namespaces, limits,
descriptors, directory, environment.
"""

import _signal  # type: ignore[import-not-found]
import fcntl
import os
import posix
import resource
import sys
import time
from functools import partial
from typing import Final

from skiff.linux import namespaces, syscalls
from skiff.linux.libc import check, syscall

ABOVE: Final = 1000  # where descriptors are out of the way of those that a caller may have

_RIGHTS: Final = (
    *("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    *("NoNewPrivs", "Seccomp", "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch"),
)
_TAKEN: Final = ("mount", "network", "uts", "ipc", "cgroup")
_SAME: Final = (
    "user",
    "pid",
    "time",
    "pid_for_children",
)  # namespaces that a worker cannot change for itself
_JOINED: Final = {namespaces.KINDS[kind][1]: namespaces.KINDS[kind][0] for kind in _TAKEN}
_SCHEDULERS: Final = (os.SCHED_OTHER, os.SCHED_BATCH)  # that anybody may choose
_LIMITS: Final = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})
_IOPRIO_GET, _IOPRIO_SET = syscalls.number("ioprio_get"), syscalls.number("ioprio_set")
_IOPRIO_WHO_PROCESS: Final = 1
_PIDFD_GETFD: Final = syscalls.number("pidfd_getfd")


class Refused(Exception):
    """That place cannot be taken."""


class Place:
    """Of the process with that number, which waits meanwhile."""

    def __init__(self, pid: int) -> None:
        """OSError."""
        self._pid = pid
        self._pidfd = os.pidfd_open(pid)
        self.arguments = self._read("cmdline").split(b"\0")[:-1]
        self._status = status(self._read("status"))
        self._label = self._security_label()
        self._namespaces = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in (*_SAME, *_JOINED)}
        self._root = os.stat(f"/proc/{pid}/root")
        self._directory = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._descriptors = self._inherited()
        self._variables = variables(self._read("environ"))
        self._limits = {limit: resource.prlimit(pid, limit) for limit in _LIMITS}
        self._scheduler = os.sched_getscheduler(pid)
        self._nice = os.getpriority(os.PRIO_PROCESS, pid)
        self._io_priority = check(syscall(_IOPRIO_GET, _IOPRIO_WHO_PROCESS, pid), "ioprio_get")
        self._cpus = os.sched_getaffinity(pid)
        self._oom_score = self._read("oom_score_adj")

    def take(self, own: "Place") -> None:
        """Let this process, whose place is `own`, become as that one, except for its arguments.

        Raises Refused, OSError: then this process is of no use any more.
        """
        self._compare(own)
        copies = {number: self._copy(number) for number in self._descriptors}
        self._take_limits(own)
        flags = [flag for name, flag in _JOINED.items() if self._namespaces[name] != own._namespaces[name]]
        if flags:
            namespaces.setns(self._pidfd, sum(flags))
        if not os.path.samestat(self._root, os.stat("/")):
            raise Refused("another root")
        os.fchdir(self._directory)
        os.umask(int(self._status["Umask"], 8))
        if self._status["Groups"] != own._status["Groups"]:
            os.setgroups([int(word) for word in self._status["Groups"].split()])
        _ignore(int(self._status["SigIgn"], 16))
        for number, copy in copies.items():
            os.dup2(copy, number)
            os.close(copy)
        _open_streams()
        _set_environment(self._variables)

    def _read(self, name: str) -> bytes:
        with open(f"/proc/{self._pid}/{name}", "rb", buffering=0) as file:
            return file.readall()

    def _security_label(self) -> bytes:
        try:
            return self._read("attr/current")
        except OSError:  # no security module that has labels
            return b""

    def _inherited(self) -> list[int]:
        """The numbers of the descriptors that an execve leaves open."""
        numbers = sorted(map(int, os.listdir(f"/proc/{self._pid}/fd")))
        return [number for number in numbers if not self._closes_on_exec(number)]

    def _closes_on_exec(self, number: int) -> bool:
        try:
            lines = self._read(f"fdinfo/{number}").splitlines()
        except FileNotFoundError:  # the list of our own was read by one
            return True
        for line in lines:
            if line.startswith(b"flags:"):
                return bool(int(line.split()[1], 8) & os.O_CLOEXEC)
        raise Refused("a descriptor without flags")

    def _compare(self, own: "Place") -> None:
        for name in _RIGHTS:
            if self._status.get(name) != own._status.get(name):
                raise Refused(f"other rights: {name}")
        if self._label != own._label:
            raise Refused("another security label")
        for name in _SAME:
            if self._namespaces[name] != own._namespaces[name]:
                raise Refused(f"another namespace: {name}")
        if self._descriptors[:3] != [0, 1, 2] or self._descriptors[-1] >= ABOVE:
            raise Refused("a stream is closed, or a descriptor is in the way")
        if self._scheduler not in _SCHEDULERS:
            raise Refused("another scheduler")

    def _copy(self, number: int) -> int:
        """Ours of its descriptor. pidfd_getfd(2)."""
        got = check(syscall(_PIDFD_GETFD, self._pidfd, number, 0), "pidfd_getfd")
        try:
            return fcntl.fcntl(got, fcntl.F_DUPFD_CLOEXEC, ABOVE)
        finally:
            os.close(got)

    def _take_limits(self, own: "Place") -> None:
        for limit, values in self._limits.items():
            if values == own._limits[limit]:
                continue
            try:
                resource.setrlimit(limit, values)
            except ValueError as error:  # higher than ours, and no CAP_SYS_RESOURCE
                raise Refused(str(error)) from error
        if self._scheduler != own._scheduler:
            os.sched_setscheduler(0, self._scheduler, os.sched_param(0))
        if self._nice != own._nice:
            os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        if self._io_priority != own._io_priority:
            check(syscall(_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, self._io_priority), "ioprio_set")
        if self._cpus != own._cpus:
            os.sched_setaffinity(0, self._cpus)
        if self._oom_score != own._oom_score:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(self._oom_score)


def status(text: bytes) -> dict[str, str]:
    """The lines of /proc/PID/status, name → value."""
    lines = text.decode("utf-8", "surrogateescape").split("\n")
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def variables(text: bytes) -> dict[bytes, bytes]:
    """The environment of /proc/PID/environ as an interpreter sees it: the first of a name counts."""
    found: dict[bytes, bytes] = {}
    for entry in text.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            found.setdefault(name, value)
    return found


def _ignore(signals: int) -> None:
    """Those whose bit is set, as /proc/PID/status counts them; not the two that libc keeps to itself."""
    for number in _signal.valid_signals() if signals else ():
        if signals >> number - 1 & 1:
            _signal.signal(number, _signal.SIG_IGN)


def _open_streams() -> None:
    """As the interpreter opens them in a locale of UTF-8, or of none."""
    text = partial(open, encoding="utf-8", newline="\n", closefd=False)
    sys.stdin = text(0, errors="surrogateescape")
    sys.stdout = text(1, "w", errors="surrogateescape", buffering=1 if os.isatty(1) else -1)
    sys.stderr = text(2, "w", errors="backslashreplace", buffering=1)


def _set_environment(found: dict[bytes, bytes]) -> None:
    """What os.environ is a view of, and libc's own."""
    for name in posix.environ:
        posix.unsetenv(name)
    posix.environ.clear()
    posix.environ.update(found)
    for name, value in found.items():
        posix.putenv(name, value)
    time.tzset()
