"""Between pivot and execve: who the process is and what it may — user, capabilities, limits, seccomp.

Runs in the child, which no longer sees the host's files: nothing is imported or read late. The order is the
matter of this file:

    session keyring                           the one we came with may hold keys of the host
    oom score, labels, rlimits, umask         while still privileged
    seccomp, without no_new_privs             loading it then needs CAP_SYS_ADMIN
    bounding set → groups, gid, uid → capset, ambient
    no_new_privs, then seccomp                last: it filters nothing of the above
"""

import errno
import os
import resource
from typing import Final, NamedTuple

from skiff.linux import capabilities, keyring, mounts, seccomp, syscalls
from skiff.linux.libc import check, syscall
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Capabilities, Process, Rlimit, User

DEFAULT_UMASK: Final = 0o022
RLIMITS: Final = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
IO_CLASSES: Final = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

_INFINITY: Final = 2**63
_IOPRIO_SET: Final = (
    syscalls.number("ioprio_set") if syscalls.architecture() in syscalls.ARCHITECTURES else -1
)


def apply_identity(process: Process, filter: Filter | None = None) -> list[str]:
    """Become what `process` says. What could not be had but can be lived without is returned, a line each.

    OSError or ValueError names what failed; the caller must
    then exit, since the process may be half of what it should be.
    """
    notes: list[str] = []
    try:
        keyring.new_session()
    except OSError as error:  # inside another container, perhaps: what we see is not the host's then
        notes.append(f"no session keyring: {error.strerror}")
    if process.oom_score_adj is not None:
        notes += set_oom_score(process.oom_score_adj)
    if process.scheduler is not None:
        raise ValueError("process.scheduler is not supported")
    if process.io_priority is not None:
        _set_io_priority(process.io_priority.get("class", ""), process.io_priority.get("priority", 0))
    if process.apparmor_profile:
        _set_label("/proc/thread-self/attr/apparmor/exec", f"exec {process.apparmor_profile}")
    if process.selinux_label:
        _set_label("/proc/thread-self/attr/exec", process.selinux_label)
    for limit in process.rlimits:
        notes += set_rlimit(limit)
    os.umask(DEFAULT_UMASK if process.user.umask is None else process.user.umask)

    if filter is not None and not process.no_new_privileges:
        seccomp.load(filter)
    become(process.user, process.capabilities or Capabilities())
    if process.no_new_privileges:
        seccomp.set_no_new_privileges()
        if filter is not None:
            seccomp.load(filter)
    return notes


def become(user: User, wanted: Capabilities) -> None:
    """Take on user, groups and capabilities. What we do not have cannot be given, and is left out."""
    _, have, _ = capabilities.get_sets()
    granted = grant(wanted, have)
    capabilities.drop_bounding(granted.bounding)
    if user.uid:
        capabilities.keep_over_setuid(True)
    try:
        os.setgroups(user.additional_gids)
    except PermissionError:
        if user.additional_gids:
            raise
        # A user namespace made without privilege denies setgroups(2); it has no groups to give up either.
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    capabilities.set_sets(granted.effective, granted.permitted, granted.inheritable)
    capabilities.set_ambient(granted.ambient)


class Granted(NamedTuple):
    """Sets of capabilities, as masks."""

    bounding: int
    effective: int
    permitted: int
    inheritable: int
    ambient: int


def grant(wanted: Capabilities, have: int) -> Granted:
    """What can be given by one who is permitted `have`. KeyError for no capability at all."""
    mask = capabilities.mask
    permitted = mask(wanted.permitted) & have
    inheritable = mask(wanted.inheritable) & have
    return Granted(
        bounding=mask(wanted.bounding),
        effective=mask(wanted.effective) & permitted,
        permitted=permitted,
        inheritable=inheritable,
        ambient=mask(wanted.ambient) & permitted & inheritable,
    )


def set_rlimit(limit: Rlimit) -> list[str]:
    """Set one limit, as far as we may: beyond the hard limit only CAP_SYS_RESOURCE reaches.

    ValueError for a limit that does not exist.
    """
    if limit.type not in RLIMITS:
        raise ValueError(f"unknown rlimit {limit.type}")
    kind = RLIMITS[limit.type]
    soft, hard = limit_value(limit.soft), limit_value(limit.hard)
    try:
        resource.setrlimit(kind, (soft, hard))
        return []
    except (PermissionError, ValueError):
        _, most = resource.getrlimit(kind)
    clamped_hard = _least(hard, most)
    clamped_soft = _least(soft, clamped_hard)
    resource.setrlimit(kind, (clamped_soft, clamped_hard))
    return [
        f"{limit.type} {limit.soft}:{limit.hard} is more than allowed here: {clamped_soft}:{clamped_hard}"
    ]


def limit_value(value: int) -> int:
    """As setrlimit takes it: RLIM_INFINITY is -1 there."""
    return resource.RLIM_INFINITY if value < 0 or value >= _INFINITY else value


def _least(a: int, b: int) -> int:
    if a == resource.RLIM_INFINITY:
        return b
    return a if b == resource.RLIM_INFINITY else min(a, b)


def set_oom_score(value: int) -> list[str]:
    """oom_score_adj of this process. Lowering it below what we were started with needs CAP_SYS_RESOURCE."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        return [f"oom score {value} not set: {error.strerror}"]
    try:
        os.write(fd, b"%d" % value)
    except PermissionError as error:
        return [f"oom score {value} not set: {error.strerror}"]
    finally:
        os.close(fd)
    return []


def _set_label(path: str, label: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if not mounts.is_procfs(fd):
            raise OSError(errno.EINVAL, "not a file of procfs", path)  # a fake takes any label and sets none
        os.write(fd, label.encode())
    finally:
        os.close(fd)


def _set_io_priority(kind: str, priority: int) -> None:
    if kind not in IO_CLASSES:
        raise ValueError(f"unknown I/O priority class {kind}")
    this_process = 1
    check(syscall(_IOPRIO_SET, this_process, 0, IO_CLASSES[kind] << 13 | priority), "ioprio_set")
