"""Capability sets of the calling thread, as masks: bit n is capability n. capabilities(7).

Called between pivot and exec, so nothing here is read or imported late: the highest capability of this kernel
is read once, when the module is.
"""

import ctypes
import struct
from collections.abc import Iterable
from typing import Final

from skiff.linux.libc import check, libc

NAMES: Final = tuple(
    "CAP_" + name
    for name in (  # noqa: SIM905
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
        "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
        "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
        "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
        "PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
NUMBERS: Final = {name: number for number, name in enumerate(NAMES)}

_VERSION_3: Final = 0x20080522
PR_CAPBSET_DROP: Final = 24
PR_SET_KEEPCAPS: Final = 8
PR_CAP_AMBIENT: Final = 47
AMBIENT_RAISE: Final = 2
AMBIENT_CLEAR_ALL: Final = 4
HEADER: Final = struct.pack("Ii", _VERSION_3, 0)


def _last() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return len(NAMES) - 1  # no /proc: dropping one too many is EINVAL, which is ignored


LAST: Final = _last()
ALL: Final = (1 << (LAST + 1)) - 1


def mask(names: Iterable[str]) -> int:
    """The set of these names. What this kernel lacks is left out; KeyError for no capability at all."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits & ALL


def names(bits: int) -> tuple[str, ...]:
    """The names in a set, lowest number first."""
    return tuple(name for number, name in enumerate(NAMES) if bits >> number & 1)


def drop_bounding(keep: int) -> None:
    """Take everything but `keep` out of the bounding set; OSError(EPERM) without CAP_SETPCAP."""
    prctl = libc.prctl
    for number in range(LAST + 1):
        if not keep >> number & 1:
            check(prctl(PR_CAPBSET_DROP, number, 0, 0, 0), f"drop capability {number}")


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of the calling thread; OSError(EPERM) when a set would grow beyond what is permitted."""
    check(libc.capset(HEADER, pack(effective, permitted, inheritable)), "capset")


def pack(effective: int, permitted: int, inheritable: int) -> bytes:
    """The sets as capset(2) takes them after HEADER."""
    low, high = 0xFFFFFFFF, 32
    return struct.pack(
        "6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )


def get_sets() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of the calling thread."""
    data = ctypes.create_string_buffer(24)
    check(libc.capget(HEADER, data), "capget")
    a, b, c, d, e, f = struct.unpack("6I", data.raw)
    return a | d << 32, b | e << 32, c | f << 32


def set_ambient(bits: int) -> None:
    """Exactly these ambient capabilities; each must be permitted and inheritable (else EPERM)."""
    prctl = libc.prctl
    check(prctl(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient capabilities")
    for number in range(LAST + 1):
        if bits >> number & 1:
            check(prctl(PR_CAP_AMBIENT, AMBIENT_RAISE, number, 0, 0), f"raise ambient {NAMES[number]}")


def keep_over_setuid(keep: bool) -> None:
    """Whether the permitted set survives setuid(2) to a user other than root; until the next execve."""
    check(libc.prctl(PR_SET_KEEPCAPS, int(keep), 0, 0, 0), "keep capabilities")
