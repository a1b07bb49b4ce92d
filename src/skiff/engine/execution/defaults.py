"""What every container gets unless told otherwise: capabilities, mounts, devices, masks, system calls. Facts.

Docker's own, so that an image behaves the same here. Pure, but for reading the packaged seccomp table once.
"""

import functools
import os
from typing import Final

import msgspec
from msgspec import Struct, field

from skiff.errors import InvalidParameter
from skiff.oci.runtime import DeviceRule, Mount, Rlimit, Seccomp, SyscallArg, SyscallRule

CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_BYTES: Final = 64 * 1024 * 1024
RLIMITS: Final[tuple[Rlimit, ...]] = ()
NAMESPACES: Final = ("mount", "network", "uts", "pid", "ipc", "cgroup")

_QUIET = ("nosuid", "noexec", "nodev")


def mounts(shm_bytes: int = SHM_BYTES) -> tuple[Mount, ...]:
    """The mounts of an unprivileged container, in the order to be made."""
    return (
        Mount("/proc", "proc", "proc", _QUIET),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        ),
        Mount("/sys", "sysfs", "sysfs", (*_QUIET, "ro")),
        Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", *_QUIET)),
        Mount("/dev/mqueue", "mqueue", "mqueue", _QUIET),
        Mount("/dev/shm", "tmpfs", "shm", (*_QUIET, "mode=1777", f"size={shm_bytes}")),
    )


# Everything is denied, then making nodes and the standard ones are allowed; 5:2 and 136 are terminals.
DEVICE_RULES: Final = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type="c", major=major, minor=minor)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
    ),
)


# -- system calls -------------------------------------------------------------------------------------------


class _Otherwise(Struct, frozen=True):
    action: str
    errno: int


class _Conditional(Struct, frozen=True):
    """Allowed when the first argument compares so with one of the values, unless a capability is held."""

    name: str
    op: str
    values: tuple[int, ...]
    without: str = ""


class _Table(Struct, frozen=True, rename="camel"):
    """seccomp_default.json. absent: not there (ENOSYS) without that capability, as on an old kernel."""

    otherwise: _Otherwise
    architectures: dict[str, tuple[str, ...]]
    conditional: tuple[_Conditional, ...]
    absent: dict[str, str]
    with_capability: dict[str, tuple[str, ...]]
    since: dict[str, tuple[str, ...]]
    only_on: dict[str, tuple[str, ...]]
    always: tuple[str, ...]


_ENOSYS: Final = 38


@functools.cache
def _table() -> _Table:
    path = os.path.join(os.path.dirname(__file__), "seccomp_default.json")
    with open(path, "rb") as file:
        return msgspec.json.decode(file.read(), type=_Table)


@functools.cache
def default_seccomp(capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> Seccomp:
    """Docker's default profile for a container with these capabilities.

    capabilities: `CAP_…` of the bounding set; arch: as uname has it (x86_64, aarch64); kernel: (6, 1).
    """
    table = _table()
    allowed = set(table.always) | set(table.only_on.get(arch, ()))
    for version, names in table.since.items():
        if kernel >= _version(version):
            allowed.update(names)
    for capability, names in table.with_capability.items():
        if capability in capabilities:
            allowed.update(names)
    rules = [SyscallRule(tuple(sorted(allowed)), "SCMP_ACT_ALLOW")]
    for case in table.conditional:
        if case.without not in capabilities:
            rules.extend(
                SyscallRule((case.name,), "SCMP_ACT_ALLOW", args=(_argument(case.op, value),))
                for value in case.values
            )
    for name, capability in table.absent.items():
        if capability not in capabilities:
            rules.append(SyscallRule((name,), "SCMP_ACT_ERRNO", _ENOSYS))
    return Seccomp(
        default_action=table.otherwise.action,
        default_errno_ret=table.otherwise.errno,
        architectures=table.architectures.get(arch, ()),
        syscalls=tuple(rules),
    )


def _argument(op: str, value: int) -> SyscallArg:
    return SyscallArg(index=0, value=value, op=op)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


# -- a profile of the user's, in Docker's file format --------------------------------------------------------


class _When(Struct, frozen=True, rename="camel"):
    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str = ""


class _Rule(Struct, frozen=True, rename="camel"):
    name: str = ""
    names: tuple[str, ...] = ()
    action: str = ""
    errno_ret: int | None = None
    args: tuple[SyscallArg, ...] | None = ()
    includes: _When | None = None
    excludes: _When | None = None


class _Family(Struct, frozen=True, rename="camel"):
    architecture: str
    sub_architectures: tuple[str, ...] | None = ()


class _Profile(Struct, frozen=True, rename="camel"):
    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = ()
    arch_map: tuple[_Family, ...] | None = ()
    flags: tuple[str, ...] | None = ()
    listener_path: str = ""
    syscalls: tuple[_Rule, ...] | None = field(default=())


_GO_NAMES: Final = {"x86_64": "amd64", "aarch64": "arm64", "x86": "386"}
_NATIVE: Final = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "x86": "SCMP_ARCH_X86",
    "arm": "SCMP_ARCH_ARM",
}


def custom_seccomp(
    text: str | bytes, capabilities: frozenset[str], arch: str, kernel: tuple[int, int]
) -> Seccomp:
    """A profile.json of `--security-opt seccomp=…`, its conditions resolved for this container and machine.

    InvalidParameter when it is no such profile.
    """
    try:
        profile = msgspec.json.decode(text, type=_Profile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    if not profile.default_action:
        raise InvalidParameter("Decoding seccomp profile failed: defaultAction is missing")
    if profile.architectures and profile.arch_map:
        raise InvalidParameter(
            "both architectures and archMap are specified in the seccomp profile, use either"
        )
    architectures = profile.architectures or ()
    for family in profile.arch_map or ():
        if family.architecture == _NATIVE.get(arch):
            architectures = (family.architecture, *(family.sub_architectures or ()))
    rules = []
    for rule in profile.syscalls or ():
        if rule.name and rule.names:
            raise InvalidParameter("'name' and 'names' are specified in the seccomp profile, use either")
        if _applies(rule, capabilities, _GO_NAMES.get(arch, arch), kernel):
            names = rule.names or (rule.name,)
            rules.append(SyscallRule(names, rule.action, rule.errno_ret, rule.args or ()))
    return Seccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=architectures,
        flags=profile.flags or (),
        listener_path=profile.listener_path,
        syscalls=tuple(rules),
    )


def _applies(rule: _Rule, capabilities: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    wanted, unwanted = rule.includes or _When(), rule.excludes or _When()
    if (wanted.arches and arch not in wanted.arches) or arch in unwanted.arches:
        return False
    if not capabilities.issuperset(wanted.caps) or not capabilities.isdisjoint(unwanted.caps):
        return False
    try:
        if wanted.min_kernel and kernel < _version(wanted.min_kernel):
            return False
        return not (unwanted.min_kernel and kernel >= _version(unwanted.min_kernel))
    except ValueError:
        raise InvalidParameter(
            f"invalid kernel version in the seccomp profile: {wanted.min_kernel or unwanted.min_kernel!r}"
        ) from None
