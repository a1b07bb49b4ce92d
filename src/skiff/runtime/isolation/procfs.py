"""What may be mounted over /proc: nothing that could pass for it.

An image or a volume with files of its own there would deceive whoever trusts /proc: us, when a label is
written there (CVE-2019-16884), and the masks, which are looked up by path.
"""

import errno
import os
from typing import Final

from skiff.linux import mounts
from skiff.runtime.isolation.handshake import StepFailed

# Figures that a program may be shown others of.
MAY_COVER_PROC: Final = frozenset(
    "/proc/" + name
    for name in (
        *("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"),
        *("sys/crypto/fips_enabled", "sys/kernel/ns_last_pid"),
    )
)


def check(target: int, path: str, *, is_proc: bool) -> None:
    """StepFailed for a mount over or inside /proc that could pass for it. is_proc: it is a procfs itself."""
    meant = os.path.normpath("/" + path.lstrip("/"))
    if meant == "/proc" and not is_proc:
        raise StepFailed(f"mount {path}", errno.EINVAL, f"{path} cannot be mounted because it is not a proc")
    if mounts.is_procfs(target) and not is_proc and meant not in MAY_COVER_PROC:
        raise StepFailed(
            f"mount {path}", errno.EINVAL, f"{path} cannot be mounted because it is inside /proc"
        )
