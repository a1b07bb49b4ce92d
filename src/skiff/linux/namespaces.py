"""Namespaces: their flags, leaving and joining them, and the id maps of a user namespace. No policy."""

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final

from skiff.linux.libc import check, libc
from skiff.linux.processes import clone, pid_in_proc, pidfd_signal, reap

CLONE_FS: Final = 0x200
CLONE_NEWTIME: Final = 0x80
CLONE_NEWNS: Final = 0x20000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 0x1
IFF_RUNNING: Final = 0x40

LOOPBACK_UP: Final = struct.pack("16sh22x", b"lo", IFF_UP | IFF_RUNNING)  # struct ifreq

# name in the runtime specification → (flag, name below /proc/PID/ns)
KINDS: Final = {
    "user": (CLONE_NEWUSER, "user"),
    "pid": (CLONE_NEWPID, "pid"),
    "network": (CLONE_NEWNET, "net"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "mount": (CLONE_NEWNS, "mnt"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
}


def unshare(flags: int) -> None:
    """Leave the namespaces of these flags for new ones."""
    if flags:
        check(libc.unshare(flags), "unshare")


def raise_loopback() -> None:
    """In a network namespace that is new the loopback is down. netdevice(7), SIOCSIFFLAGS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, LOOPBACK_UP)


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace of a descriptor, or with a pidfd several of that process at once."""
    check(libc.setns(fd, flags), "setns")


def open_namespace(path: str) -> int:
    """A close-on-exec descriptor of a namespace file."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def elsewhere(enter: Callable[[], None], act: Callable[[], int]) -> int:
    """What act gives in the mount namespace that enter goes to. Then this thread is back where it was.

    Root and directory are as before, but from now on this thread's own.
    """
    own = open_namespace("/proc/thread-self/ns/mnt")
    root, here = os.open("/", os.O_PATH | os.O_CLOEXEC), os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        unshare(CLONE_FS)
        try:
            enter()
            return act()
        finally:
            setns(own, CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.fchdir(here)
    finally:
        for fd in (own, root, here):
            os.close(fd)


def differing(pid: int, kinds: Iterable[str]) -> int:
    """Flags of those namespaces in which the process is not where we are; OSError if it is gone."""
    flags = 0
    for kind in kinds:
        flag, name = KINDS[kind]
        theirs = os.stat(f"/proc/{pid}/ns/{name}")
        ours = os.stat(f"/proc/self/ns/{name}")
        if (theirs.st_ino, theirs.st_dev) != (ours.st_ino, ours.st_dev):
            flags |= flag
    return flags


def write_id_maps(
    pid: int, uids: Iterable[tuple[int, int, int]], gids: Iterable[tuple[int, int, int]]
) -> None:
    """Give a fresh user namespace its maps: (inside, outside, size). user_namespaces(7)."""
    for name, rows in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in rows)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def mapped_namespace(uids: Iterable[tuple[int, int, int]], gids: Iterable[tuple[int, int, int]]) -> int:
    """A descriptor of a new user namespace with these maps, held by nobody else: for id-mapped mounts."""
    pid, pidfd = clone(CLONE_NEWUSER)
    if pid == 0:
        while True:
            signal.pause()
    try:
        shown = pid_in_proc(pidfd)  # we may be in a pid namespace of our own
        write_id_maps(shown, uids, gids)
        return open_namespace(f"/proc/{shown}/ns/user")
    finally:
        pidfd_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        reap(pid)
