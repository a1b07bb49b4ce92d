"""Processes: clone3, process descriptors, and what prctl(2) says about oneself. No policy."""

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import signal
import struct
from typing import Final

from skiff.linux import syscalls
from skiff.linux.libc import check, libc, locked_libc, prctl, syscall

CLONE_PIDFD: Final = 0x1000
CLONE_PARENT: Final = 0x8000
CLONE_INTO_CGROUP: Final = 0x200000000
SYS_CLONE3: Final = 435
SYS_PIDFD_SEND_SIGNAL: Final = 424

PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36

_ARGS: Final = struct.Struct("=11Q")
DEFAULT_ACTION: Final = bytes(32)  # the kernel's struct sigaction
OFTEN_IGNORED: Final = tuple(
    int(getattr(signal, f"SIG{name}"))
    for name in "PIPE XFSZ INT CHLD TERM HUP QUIT TTIN TTOU TSTP USR1 USR2 WINCH".split()  # noqa: SIM905
)
_SIG_DFL: Final = ctypes.c_void_p(0)
SIG_SETMASK: Final = 2
_NO_SIGNALS: Final = bytes(128)


def clone(flags: int = 0, *, cgroup: int = -1) -> tuple[int, int]:
    """Fork with namespace flags: (pid, pidfd) in the parent, (0, -1) in the child. clone3(2).

    cgroup: descriptor of a cgroup v2 directory to be born in. Only for a process without threads. The pidfd
    is close-on-exec; SIGCHLD tells the exit.
    """
    pidfd = ctypes.c_int(-1)
    told = 0 if flags & CLONE_PARENT else signal.SIGCHLD  # a sibling is told of as we are
    into = 0
    if cgroup >= 0:
        flags |= CLONE_INTO_CGROUP
        into = cgroup
    args = ctypes.create_string_buffer(
        _ARGS.pack(flags | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, told, 0, 0, 0, 0, 0, into),
        _ARGS.size,
    )
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = locked_libc.syscall(ctypes.c_long(SYS_CLONE3), args, ctypes.c_long(_ARGS.size))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return pid, pidfd.value


def pidfd_signal(pidfd: int, number: int) -> None:
    """Send a signal by descriptor; ProcessLookupError once it is gone. pidfd_send_signal(2)."""
    check(syscall(SYS_PIDFD_SEND_SIGNAL, pidfd, number, 0, 0), "pidfd_send_signal")


def pid_in_proc(pidfd: int) -> int:
    """The number under which the /proc of our root shows a process; proc(5), fdinfo. OSError ESRCH: none."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:") and int(line[4:]) > 0:
                return int(line[4:])
    raise ProcessLookupError(3, os.strerror(3))


def reap(pid: int) -> int:
    """Wait for a child and take it away: its wait status."""
    return os.waitpid(pid, 0)[1]


def was_killed(pidfd: int) -> bool:
    """Whether the child, which is about to end, ended by a signal; it stays to be reaped."""
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    return ended is not None and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)


def exit_code(status: int) -> tuple[int, int]:
    """(code as a shell says it, signal or 0) of a wait status."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def become_subreaper() -> None:
    """Orphans below us become our children."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(dumpable: bool) -> None:
    """Whether /proc/self belongs to us (and may be traced), or to root only."""
    prctl(PR_SET_DUMPABLE, int(dumpable))


def set_name(name: str) -> None:
    """What ps shows as the command's name, at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15], 16)
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def set_own_name(name: str) -> None:
    """The same where the host's /proc is in sight: through it, which touches hardly any memory. proc(5)."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, name.encode())
    finally:
        os.close(fd)


def expect_children() -> None:
    """Undo an ignored SIGCHLD: children that end can be waited for."""
    _signal.signal(signal.SIGCHLD, 0)  # `signal.signal` would make an enum of the answer, page by page


def default_hidden_signals() -> None:
    """SIG_DFL for the two signals that libc keeps to itself: somebody before us may have ignored them."""
    number = syscalls.number("rt_sigaction")
    for hidden in (32, 33):
        check(syscall(number, hidden, DEFAULT_ACTION, 0, 8), "rt_sigaction")


def default_signals() -> None:
    """Give back what we and the interpreter changed: an exec'ed program inherits what is ignored or
    blocked.
    """
    # By the library itself: the interpreter's own calls make an enum of each answer, in a page of its own.
    for number in OFTEN_IGNORED:
        libc.signal(number, _SIG_DFL)
    libc.pthread_sigmask(SIG_SETMASK, _NO_SIGNALS, None)
