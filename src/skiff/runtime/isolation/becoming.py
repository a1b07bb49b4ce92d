"""What an init does, from its birth to its program, as calls. Pure; init.py does the same in an interpreter.

    cgroup → namespaces → root → host names → pivot → READY … START → identity → execve

A container with hooks, a terminal or a user namespace takes an interpreter.
"""

from typing import Final

from msgspec import Struct

from skiff.linux import cgroups, namespaces
from skiff.linux.calls import Program, Result, Rider
from skiff.linux.fds import O_CLOEXEC, O_WRONLY
from skiff.linux.libc import AT_FDCWD
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Mount, Spec
from skiff.runtime.isolation import entering, handshake, root_calls, root_plan
from skiff.runtime.isolation.entering import Unplanned

OURS: Final = Rider("ours")  # the monitor's end of the handshake, which the child must not keep
SYNC: Final = Rider("sync")  # its own
STREAMS: Final = (Rider("in"), Rider("out"), Rider("err"))

_MSG_NOSIGNAL: Final = 0x4000
_AF_INET: Final = 2
_SOCK_DGRAM: Final = 2
_KINDS: Final = frozenset(namespaces.KINDS) - {"user", "time"}


class Init(Struct, frozen=True):
    """cloned: namespace flags it is born with. apart: all in which it differs from its parent. gate: the call
    that ends it, unless it has been replaced. execves: its last calls.
    """

    cloned: int
    apart: int
    gate: Result
    execves: tuple[Result, ...]


def become(
    program: Program,
    spec: Spec,
    group: cgroups.Group,
    *,
    rootfs: tuple[Mount, ...],
    at: str,
    filter: Filter | None,
    have: int,
) -> Init:
    """Unplanned for a container that an interpreter has to make.

    at: see root_calls.open_all. have: see entering.enter.
    """
    linux, process, call = spec.linux, spec.process, program.call
    if linux is None or process is None or not process.cwd.startswith("/"):
        raise Unplanned("the answer is an error")
    if linux.personality or linux.time_offsets or spec.hooks or process.terminal:
        raise Unplanned("hooks, or a terminal")
    if process.oom_score_adj is not None:
        raise Unplanned("a score would be its parent's, too: they share their memory")  # proc(5)
    cloned, unshared, joined = _namespaces(spec)
    call("close", OURS)
    tasks = [
        call("openat", AT_FDCWD, entering.text(f"{directory}/tasks"), O_WRONLY | O_CLOEXEC, 0)
        for directory in (group.v1.directories if group.v1 else ())
    ]
    entering.settle(program, tuple(tasks))
    entered = _join(program, unshared, joined)
    call("umask", 0)
    new_cgroup = bool(unshared & namespaces.CLONE_NEWCGROUP)
    steps = root_plan.plan(spec, group.layout, group.path, new_user=False, new_cgroup=new_cgroup)
    root_calls.open_all(program, rootfs, steps, at)
    root_calls.furnish(program, steps)
    _names(program, spec)
    root_calls.make_directory(program, process.cwd)
    root_calls.enter_root(
        program, readonly=bool(spec.root and spec.root.readonly), propagation=linux.rootfs_propagation
    )
    entering.take_streams(program, STREAMS)
    apart = cloned | unshared | entered
    ready = handshake.READY + b"%d" % apart
    call("sendto", SYNC, ready, len(ready), _MSG_NOSIGNAL, None, 0)
    call("recvfrom", SYNC, bytes(8), 1, 0, None, None)
    # Whatever woke it, the end of its parent too: it goes on when this has become another call.
    gate = call("exit_group", 1)
    execves = entering.enter(program, process, filter, have=have)
    return Init(cloned, apart, gate, execves)


def _namespaces(spec: Spec) -> tuple[int, int, list[tuple[str, int]]]:
    """Flags to be born with, flags to unshare, (path, flag) to join."""
    assert spec.linux
    new, joined = 0, []
    kinds = {namespace.type for namespace in spec.linux.namespaces}
    if len(kinds) != len(spec.linux.namespaces) or not kinds <= _KINDS:
        raise Unplanned("a user namespace, or the answer is an error")
    for namespace in spec.linux.namespaces:
        flag, _ = namespaces.KINDS[namespace.type]
        if namespace.path:
            joined.append((namespace.path, flag))
        else:
            new |= flag
    born = namespaces.CLONE_NEWPID
    if not new & born or not new & namespaces.CLONE_NEWNS:
        raise Unplanned("among other processes, which may trace it")
    if (spec.hostname or spec.domainname) and "uts" not in kinds:
        raise Unplanned("the answer is an error")
    return born, new & ~born, joined


def _join(program: Program, unshared: int, joined: list[tuple[str, int]]) -> int:
    entered = 0
    for path, flag in joined:
        namespace = program.call("openat", AT_FDCWD, entering.text(path), O_CLOEXEC, 0)
        program.call("setns", namespace, flag)
        entered |= flag
    program.call("unshare", unshared)
    if unshared & namespaces.CLONE_NEWNET:
        any_socket = program.call("socket", _AF_INET, _SOCK_DGRAM | O_CLOEXEC, 0)
        program.call("ioctl", any_socket, namespaces.SIOCSIFFLAGS, namespaces.LOOPBACK_UP)
    return entered


def _names(program: Program, spec: Spec) -> None:
    """Host name, domain name and sysctls, while the host's /proc is in sight."""
    if spec.hostname:
        name = entering.text(spec.hostname)
        program.call("sethostname", name, len(name))
    if spec.domainname:
        name = entering.text(spec.domainname)
        program.call("setdomainname", name, len(name))
    for key, written in (spec.linux.sysctl if spec.linux else {}).items():
        path = entering.text(f"/proc/sys/{key.replace('.', '/')}")
        file = program.call("openat", AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0)
        value = entering.text(written)
        program.call("write", file, value, len(value))
