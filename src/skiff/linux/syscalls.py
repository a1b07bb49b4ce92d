"""System call numbers per architecture. Facts only: data/*.txt, one `name number` a line.

Read on first use and kept: whoever runs after a chroot must have asked before.
"""

import functools
import os
from typing import Final

# Architecture here → (its audit number as seccomp sees it, file of numbers). audit.h, AUDIT_ARCH_*.
AUDIT: Final = {
    "x86_64": 0xC000003E,
    "x86": 0x40000003,
    "x32": 0xC000003E,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
}
# A system call of the x32 ABI arrives as x86_64 with this bit set in its number. asm/unistd.h.
X32_BIT: Final = 0x40000000
ARCHITECTURES: Final = tuple(AUDIT)

_MACHINES: Final = {
    "i386": "x86",
    "i486": "x86",
    "i586": "x86",
    "i686": "x86",
    "amd64": "x86_64",
    "arm64": "aarch64",
}


def architecture() -> str:
    """What this machine is: one of ARCHITECTURES, or uname's own word for one that is not known here."""
    machine = os.uname().machine
    if machine.startswith(("armv", "armhf")):
        return "arm"
    return _MACHINES.get(machine, machine)


@functools.cache
def numbers(arch: str) -> dict[str, int]:
    """Name → number. x32's carry X32_BIT. KeyError for an architecture that is not known."""
    if arch not in AUDIT:
        raise KeyError(arch)
    bit = X32_BIT if arch == "x32" else 0
    with open(os.path.join(os.path.dirname(__file__), "data", f"{arch}.txt"), encoding="ascii") as file:
        pairs = (line.split() for line in file if not line.startswith("#"))
        return {name: int(value) | bit for name, value in pairs}


def number(name: str, arch: str | None = None) -> int:
    """The number of one call, here or on that architecture; KeyError when it does not exist there."""
    return numbers(arch or architecture())[name]
