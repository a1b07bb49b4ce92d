"""Spawning: a child that shares our memory and performs a program of system calls (calls.py), then execve.

A fork of an interpreter costs far more than what its child is for: page tables are copied, and each page that
either side touches is copied or faulted in again; execve tears all that down. A child that shares the memory
(CLONE_VM) costs next to nothing, but may not run the interpreter: so it runs a few machine instructions
(machine.py), which walk over the records of a program.

The memory is that of a process with rights, so nobody may trace the child: spawn nothing among processes that
hold CAP_SYS_PTRACE. Against all others it is guarded as its parent is, by not being dumpable.
"""

import ctypes
import errno
import mmap
import os
import signal
import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from skiff.linux import calls, machine, syscalls
from skiff.linux.libc import check, libc
from skiff.linux.processes import CLONE_INTO_CGROUP, CLONE_PIDFD

CLONE_VM: Final = 0x100
CLONE_VFORK: Final = 0x4000
CLONE_CLEAR_SIGHAND: Final = 0x100000000

MAP_FIXED: Final = 0x10

MEMORY: Final = 256 * 1024  # bytes, of which only those that are touched are there
_ARGUMENTS: Final = struct.Struct("<11Q")  # struct clone_args
_PIDFD_AT: Final = 96
_PROGRAM_AT: Final = 128

_mmap = libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_madvise = libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED: Final = ctypes.c_void_p(-1).value


class Spawned(NamedTuple):
    pid: int
    pidfd: int


class Spawner:
    """Code and memory for one program at a time. None of it where `available` says no."""

    def __init__(self, code: bytes) -> None:
        self.start = mapped(MEMORY, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.end = self.start + MEMORY
        self.memory = memoryview((ctypes.c_ubyte * MEMORY).from_address(self.start)).cast("B")
        self.room = self.memory[_PROGRAM_AT:]
        self._records = _PROGRAM_AT
        walk = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        self._walk = walk(executable(code))
        self._numbers = syscalls.numbers(syscalls.architecture())
        self.base = self.start + _PROGRAM_AT

    def program(self) -> calls.Program:
        """An empty one, for our memory or that of a child of ours."""
        return calls.Program(self._numbers, self.base)

    def spawn(
        self,
        image: bytes | memoryview,
        start: int,
        places: Mapping[str, tuple[int, ...]],
        flags: int = 0,
        *,
        riders: Mapping[str, int] = {},
        cgroup: int = -1,
        wait: bool,
    ) -> Spawned:
        """Clone the child. OSError when the kernel refuses; its program's fate is in `result`.

        image, start, places: of a program, made for our base; E2BIG when it does not fit. A view is taken to
        be one of our room, where it lies already. flags: of clone3(2), beside those that are needed. riders:
        the numbers for the places. cgroup: see processes.clone. wait: until its execve, or its end.
        """
        if isinstance(image, bytes):
            if len(image) > len(self.room):
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            self.room[: len(image)] = image
        for name, addresses in places.items():
            for address in addresses:
                self._set(address, riders[name])
        flags |= CLONE_VM | CLONE_CLEAR_SIGHAND | CLONE_PIDFD
        if wait:
            flags |= CLONE_VFORK
        if cgroup >= 0:
            flags |= CLONE_INTO_CGROUP
        arguments = _ARGUMENTS.pack(
            flags, self.start + _PIDFD_AT, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, max(cgroup, 0)
        )
        self.memory[: _ARGUMENTS.size] = arguments
        self._records = _PROGRAM_AT + start
        pid = self._walk(self.start, _ARGUMENTS.size, self.base + start)
        if pid < 0:
            raise OSError(-pid, f"clone3: {os.strerror(-pid)}")
        (pidfd,) = struct.unpack_from("<i", self.memory, _PIDFD_AT)
        return Spawned(pid, pidfd)

    def result(self, call: calls.Result) -> int:
        """See calls.result."""
        return calls.result(self.memory, call.at, self._records)

    def executes(self, execves: Iterable[calls.Result]) -> bool:
        """Whether the child has come to one of these calls and not back from it."""
        return any(
            self.result(call) == calls.PENDING and 0 <= self.result(calls.Result(call.at - 1)) < calls.PENDING
            for call in execves
        )

    def replace(self, call: calls.Result, number: int) -> None:
        """While the child performs something else: let that call be another."""
        self._set(self.start + self._records + call.at * calls.RECORD.size, number)

    def forget(self) -> None:
        """Give the memory back to the kernel; no child performs a program any more."""
        forget(self.start, MEMORY)

    def _set(self, address: int, value: int) -> None:
        struct.pack_into("<Q", self.memory, address - self.start, value)


def executable(code: bytes) -> int:
    """The address of code that can be called, of a page at most. OSError where a policy forbids it."""
    fd = os.memfd_create("skiff-code", os.MFD_CLOEXEC)
    try:
        os.write(fd, code.ljust(mmap.PAGESIZE, b"\0"))
        # A file that is mapped, so that no page can be written and executed.
        return mapped(mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED, fd)
    finally:
        os.close(fd)


def mapped(length: int, protection: int, flags: int, fd: int = -1) -> int:
    """The address of a new mapping. mmap(2); the interpreter's own would not tell it."""
    address: int | None = _mmap(None, length, protection, flags, fd, 0)
    if address is None or address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap: {os.strerror(number)}")
    return address


def forget(start: int, length: int) -> None:
    """Nothing there is needed any more; the mapping stays. OSError."""
    check(_madvise(start, length, mmap.MADV_DONTNEED), "madvise")


def available() -> Spawner | None:
    """A spawner, or None on an architecture without code or a kernel that does not let it run safely."""
    here = syscalls.architecture()
    if here not in machine.CLONE or _shares_secrets():
        return None
    try:
        return Spawner(machine.CLONE[here] + machine.WALK[here])
    except OSError:  # a policy against executable memory
        return None


def _shares_secrets() -> bool:
    """Whether a process that changes its user becomes dumpable, and with it its memory. proc(5)."""
    try:
        with open("/proc/sys/fs/suid_dumpable", "rb") as file:
            return file.read().strip() == b"1"
    except FileNotFoundError:
        return False
