"""Load a compiled seccomp filter into the calling task. What it says is made in runtime/isolation.

seccomp(2), SECCOMPSET_MODE_FILTER.
"""

import ctypes
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from skiff.linux import syscalls
from skiff.linux.libc import check, prctl, syscall

FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}

SET_MODE_FILTER: Final = 1
_GET_ACTION_AVAIL: Final = 2
PR_SET_NO_NEW_PRIVS: Final = 38
# Looked up now: after the pivot the table of numbers is out of reach.
_SECCOMP: Final = syscalls.number("seccomp") if syscalls.architecture() in syscalls.ARCHITECTURES else -1


def flags(names: Iterable[str]) -> int:
    """The bits of a profile's flags. ValueError for one that is not known."""
    found = 0
    for name in names:
        if name not in FLAGS:
            raise ValueError(f"unknown seccomp flag {name}")
        found |= FLAGS[name]
    return found


class Filter(NamedTuple):
    """program: an array of struct sock_filter. flags: see FLAGS."""

    program: bytes
    flags: int = 0


def load(filter: Filter) -> None:
    """Put the calling task under the filter.

    OSError(EACCES) when the task has neither CAP_SYS_ADMIN nor no_new_privs; EINVAL: not a valid program.
    """
    code = ctypes.create_string_buffer(filter.program, len(filter.program))
    header = struct.pack("HxxxxxxP", len(filter.program) // 8, ctypes.addressof(code))
    check(syscall(_SECCOMP, SET_MODE_FILTER, filter.flags, header), "seccomp")


def set_no_new_privileges() -> None:
    """No execve will grant more than the task has; irrevocable. PR_SET_NO_NEW_PRIVS."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def is_available() -> bool:
    """Whether this kernel filters system calls and knows how to kill the whole process."""
    if _SECCOMP < 0:
        return False
    kill_process = struct.pack("I", 0x80000000)
    return syscall(_SECCOMP, _GET_ACTION_AVAIL, 0, kill_process) == 0 or ctypes.get_errno() == 95
