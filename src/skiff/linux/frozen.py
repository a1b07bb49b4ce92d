"""Frozen memory: what is forked from it gives back its copies of the pages that are as they were.

    freeze      each private, writable mapping ──copied into──► a sealed file ──mapped in its place
    give_back   a page of our own that equals the file's ──dropped──► the file's, which all share

A child of an interpreter writes nearly everywhere: a reference is counted up and down again, and the page is
a copy for good, though it says what it said before. Of anonymous memory the kernel takes back nothing without
forgetting it; of a file that is mapped privately it drops a copy.

The interpreter may not run between a look at a page and what is done to it. So a spawned child, for which it
waits, puts the file in place, and a few machine instructions of ours compare and drop.
"""

import _thread
import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from skiff.linux import processes, spawn, syscalls
from skiff.linux.spawn import Spawner

# drop(pairs of addresses: a page, the same as it was; their number) → how many were dropped
_CODE: Final = {
    "x86_64": bytes.fromhex(
        "4989f8"  # mov r8, rdi
        "4989f1"  # mov r9, rsi
        "4531d2"  # xor r10d, r10d
        # next:
        "4983e901"  # sub r9, 1
        "722f"  # jb end
        "498b38"  # mov rdi, [r8]
        "498b7008"  # mov rsi, [r8+8]
        "4983c010"  # add r8, 16
        "b900020000"  # mov ecx, 512
        "f348a7"  # repe cmpsq
        "75e5"  # jne next
        "498b78f0"  # mov rdi, [r8-16]
        "be00100000"  # mov esi, 4096
        "ba04000000"  # mov edx, 4        MADV_DONTNEED
        "b81c000000"  # mov eax, 28       madvise
        "0f05"  # syscall
        "49ffc2"  # inc r10
        "ebcb"  # jmp next
        # end:
        "4c89d0"  # mov rax, r10
        "c3"  # ret
    ),
}
_PAGE: Final = 4096  # of the code
_WORD: Final = 8
_FLAGS: Final = 7  # the byte of a word of /proc/PID/pagemap that tells what kind of page it is; pagemap(5)
_PRESENT: Final = 0x80
_OF_A_FILE: Final = 0x20
_F_ADD_SEALS: Final = 1033
_ALL_SEALS: Final = 0xF


class Region(NamedTuple):
    """A mapping, and where it lies in the file."""

    start: int
    length: int
    offset: int


class Frozen:
    """Inherited by children. view: the file, where nobody writes."""

    def __init__(self, regions: tuple[Region, ...], view: int, size: int, code: int) -> None:
        self._regions = regions
        self._view = view
        self._size = size
        drop = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t)
        self._drop = drop(code)

    def give_back(self) -> int:
        """Drop what was copied and is as it was; the number of pages. For a quiet moment: it takes half a
        millisecond, and what is written to next is copied again. OSError.
        """
        pairs = bytearray()
        pages = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, length, offset in self._regions:
                kinds = os.pread(pages, length // _PAGE * _WORD, start // _PAGE * _WORD)[_FLAGS::_WORD]
                was = self._view + offset
                for at, kind in enumerate(kinds):
                    if kind & (_PRESENT | _OF_A_FILE) == _PRESENT:
                        pairs += struct.pack("<QQ", start + at * _PAGE, was + at * _PAGE)
        finally:
            os.close(pages)
        dropped: int = self._drop(bytes(pairs), len(pairs) // (2 * _WORD))
        spawn.forget(self._view, self._size)  # what was looked at is in our table of pages
        return dropped


def freeze(spawner: Spawner) -> Frozen | None:
    """Freeze what this process has written so far, or None where there is no code for it. OSError.

    For a process without other threads, which no other shares its memory with.
    """
    code = _CODE.get(syscalls.architecture())
    if code is None:
        return None
    executable = spawn.executable(code)
    regions = tuple(_regions(spawner))
    size = sum(region.length for region in regions)
    file = os.memfd_create("skiff-frozen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(file, 0, size)  # so that no write ends early
        program = spawner.program()
        for start, length, offset in regions:
            program.call("pwrite64", file, start, length, offset)
        for start, length, offset in regions:
            flags = mmap.MAP_PRIVATE | spawn.MAP_FIXED
            program.call("mmap", start, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, file, offset)
        program.call("exit_group", 0)
        child = spawner.spawn(*program.image(), wait=True)
        os.close(child.pidfd)
        if processes.reap(child.pid) != 0:
            raise OSError(errno.ENOMEM, "memory cannot be frozen")
        fcntl.fcntl(file, _F_ADD_SEALS, _ALL_SEALS)
        view = spawn.mapped(size, mmap.PROT_READ, mmap.MAP_PRIVATE, file)
    finally:
        os.close(file)
    return Frozen(regions, view, size, executable)


def _regions(spawner: Spawner) -> Iterator[Region]:
    """What is private and written to; but for where the program lies, and where the kernel writes by itself:
    the stack, and a thread's own block (rseq(2)).
    """
    offset = 0
    for start, end in _mappings():
        if start <= _thread.get_ident() < end:
            continue
        for first, last in ((start, min(end, spawner.start)), (max(start, spawner.end), end)):
            if first < last:
                yield Region(first, last - first, offset)
                offset += last - first


def _mappings() -> list[tuple[int, int]]:
    """proc(5), /proc/PID/maps."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(maxsplit=5) for line in file]
    return [
        (int(first, 16), int(last, 16))
        for (first, last), what in ((words[0].split("-"), words) for words in lines)
        if what[1] == "rw-p" and what[5:] != ["[stack]\n"]
    ]
