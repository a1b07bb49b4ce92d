"""Parent side: prepare the cgroup, clone init, hand over what it needs, run the hooks.

For a monitor (keeps the Container and starts it by `start`) and for a plain `skiff-oci create` alike: that
one
passes its own gate and report descriptors (FIFOs) and exits; `skiff-oci start` writes one byte to the gate.
"""

import os
import signal
import socket
import stat
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, namespaces, processes, seccomp
from skiff.linux import fds as descriptors
from skiff.oci.runtime import Hooks, IdMapping, Linux, Mount, Process, Spec, State
from skiff.runtime.isolation import cgroup as limits
from skiff.runtime.isolation import handshake, hooks, init, rootfs
from skiff.runtime.isolation import seccomp as filters
from skiff.runtime.isolation.handshake import StepFailed, step_failed

__all__ = ["Container", "StepFailed", "Streams", "create", "filter_of", "flags_of", "start", "state_of"]


class Streams(Struct, frozen=True, kw_only=True):
    """Descriptors init gets as 0, 1, 2 (the caller closes its copies after create).

    console: a connected unix stream socket; the terminal's master is sent over it (SCM_RIGHTS), as runc's
    --console-socket. Needs process.terminal; then stdin, stdout, stderr are not used.
    """

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    console: int = -1


class Container(Struct, kw_only=True):
    """A created container: init is set up and waits at the gate.

    pid: in our pid namespace. sync: our end of the handshake (None when an own gate was given). master: of
    the
    terminal when no console socket was given, else -1. namespaces: CLONE_NEW* flags in which it differs
    from us.
    owns_pids: it has a pid namespace of its own; if not, processes may outlive init.
    """

    pid: int
    pidfd: int
    sync: socket.socket | None
    group: cgroups.Group
    master: int = -1
    namespaces: int = 0
    owns_pids: bool = False


class _Plan(Struct):
    """The namespaces, sorted by what has to be done for each."""

    clone: int = 0
    unshare: int = 0
    entered: int = 0
    joined: tuple[tuple[int, int], ...] = ()
    user_fd: int = -1
    pid_fd: int = -1

    def close(self) -> None:
        descriptors.close_all([self.user_fd, self.pid_fd, *(fd for fd, _ in self.joined)])


def create(
    *,
    id: str,
    bundle: str,
    spec: Spec,
    streams: Streams,
    rootfs_mounts: Sequence[Mount] = (),
    with_init: bool = False,
    gate: int = -1,
    report: int = -1,
    seccomp_program: bytes | None = None,
    here: cgroups.Layout | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Container:
    """Make the container; StepFailed with everything undone when a step fails.

    rootfs_mounts: what makes up the root; empty for spec.root.path below the bundle. with_init: see
    Create.init.
    gate: descriptor init reads one byte from before its execve; report: where it writes a StepError as JSON
    if
    that fails (closed on success). Both -1: the handshake socket does both, see start().
    seccomp_program: compiled from spec.linux.seccomp by the caller (cached there), else compiled here.
    here: the cgroup hierarchies, if the caller knows them.
    meanwhile: what the caller can do while init works.
    """
    linux, process = _checked(spec)
    here = here or cgroups.layout()
    path = linux.cgroups_path or f"/skiff/{id}"
    plan = _plan_namespaces(linux)
    group: cgroups.Group | None = None
    try:
        steps = rootfs.plan(
            spec,
            here,
            path,
            new_user=bool(plan.clone & namespaces.CLONE_NEWUSER) or plan.user_fd >= 0,
            new_cgroup=bool(plan.unshare & namespaces.CLONE_NEWCGROUP),
        )
        group = _make_group(here, path, linux)
        flags = 0
        if linux.seccomp:
            seccomp_program = seccomp_program or filter_of(spec)
            flags = flags_of(spec)
        root_path = os.path.join(bundle, spec.root.path if spec.root else "rootfs")
        trees = rootfs.prepare(rootfs_mounts, root_path, steps)
        try:
            own_streams(streams, process, linux.uid_mappings)
            at = root_path if spec.hooks and (rootfs_mounts or os.path.isdir(root_path)) else "/"
            return _clone(
                plan,
                group,
                lambda tasks: init.Charge(
                    spec=spec,
                    process=process,
                    state=state_of(id, bundle, spec, "creating"),
                    steps=steps,
                    trees=trees,
                    at=at,
                    tasks=tasks,
                    joined=plan.joined,
                    user_fd=plan.user_fd,
                    unshared=plan.unshare,
                    cloned=plan.clone,
                    entered=plan.entered,
                    new_user=bool(plan.clone & namespaces.CLONE_NEWUSER),
                    streams=(streams.stdin, streams.stdout, streams.stderr),
                    console=streams.console,
                    gate=gate,
                    report=report,
                    init=with_init,
                    seccomp_program=seccomp_program,
                    seccomp_flags=flags,
                ),
                meanwhile,
            )
        finally:
            trees.close()
    except BaseException:
        if group is not None:
            group.destroy()
        raise
    finally:
        plan.close()


def start(container: Container, spec: Spec, *, id: str, bundle: str) -> None:
    """Open the gate; returns once execve has succeeded, poststart hooks included. StepFailed."""
    sync = container.sync
    if sync is None:
        raise StepFailed("start", text="started already")
    container.sync = None
    with sync:
        try:
            handshake.say(sync, handshake.START)
        except BrokenPipeError:
            raise StepFailed("start", text="init has ended before it was started") from None
        letter, riders = handshake.hear(sync)  # the end of the socket is success; ERROR raises
        descriptors.close_all(riders)
        if letter:
            raise StepFailed("start", text=f"unexpected {letter!r} from init")
    if spec.hooks and spec.hooks.poststart:
        hooks.run("poststart", spec.hooks.poststart, state_of(id, bundle, spec, "running", container.pid))


def filter_of(spec: Spec) -> bytes | None:
    """The compiled seccomp filter a spec asks for. StepFailed for a profile that cannot be."""
    if not spec.linux or not spec.linux.seccomp:
        return None
    try:
        return filters.compile(spec.linux.seccomp)
    except (SkiffError, ValueError) as error:
        raise StepFailed("seccomp", text=str(error)) from error


def flags_of(spec: Spec) -> int:
    """How that filter is to be loaded. StepFailed for a flag that is not known."""
    profile = spec.linux.seccomp if spec.linux else None
    try:
        return seccomp.flags(profile.flags) if profile else 0
    except ValueError as error:
        raise StepFailed("seccomp", text=str(error)) from error


def state_of(id: str, bundle: str, spec: Spec, status: str, pid: int = 0) -> State:
    """What hooks and `state` are told."""
    return State(id=id, status=status, pid=pid, bundle=bundle, annotations=spec.annotations)


def _checked(spec: Spec) -> tuple[Linux, Process]:
    if spec.process is None or spec.linux is None:
        raise StepFailed("config.json", text="a spec needs `process` and `linux`")
    if spec.linux.personality:
        raise StepFailed("personality", text="not supported")
    if spec.linux.time_offsets:
        raise StepFailed("time offsets", text="not supported")
    if not spec.process.cwd.startswith("/"):
        raise StepFailed("chdir", text=f"cwd {spec.process.cwd!r} is not absolute")
    kinds = {namespace.type for namespace in spec.linux.namespaces}
    if len(kinds) != len(spec.linux.namespaces):
        raise StepFailed("namespaces", text="one kind is named twice")
    if spec.hostname and "uts" not in kinds:
        raise StepFailed("set hostname", text="not without a uts namespace")
    return spec.linux, spec.process


def _plan_namespaces(linux: Linux) -> _Plan:
    plan = _Plan()
    new = 0
    joined: list[tuple[int, int]] = []
    try:
        for namespace in linux.namespaces:
            if namespace.type not in namespaces.KINDS or namespace.type == "time":
                raise StepFailed("namespaces", text=f"{namespace.type!r} is not supported")
            flag, _ = namespaces.KINDS[namespace.type]
            if not namespace.path:
                new |= flag
                continue
            with step_failed(f"join {namespace.path}"):
                fd = namespaces.open_namespace(namespace.path)
            plan.entered |= flag
            match namespace.type:
                case "user":
                    plan.user_fd = fd
                case "pid":
                    plan.pid_fd = fd
                case _:
                    joined.append((fd, flag))
        if not new & namespaces.CLONE_NEWNS:
            raise StepFailed("namespaces", text="a container needs a mount namespace of its own")
        if new & namespaces.CLONE_NEWUSER and not linux.uid_mappings:
            raise StepFailed("namespaces", text="a user namespace needs id mappings")
        if plan.user_fd >= 0 and new & namespaces.CLONE_NEWPID:
            raise StepFailed(
                "namespaces", text="a new pid namespace in a joined user namespace is not supported"
            )
    except BaseException:
        descriptors.close_all([plan.user_fd, plan.pid_fd, *(fd for fd, _ in joined)])
        raise
    plan.joined = tuple(joined)
    # The cgroup namespace takes its root from where the process is: after joining. In a joined user namespace
    # everything comes after joining it.
    plan.unshare = new & namespaces.CLONE_NEWCGROUP if plan.user_fd < 0 else new
    plan.clone = new & ~plan.unshare
    return plan


def _make_group(here: cgroups.Layout, path: str, linux: Linux) -> cgroups.Group:
    try:
        with step_failed(f"cgroup {path}"):
            group = cgroups.create(here, path)
            try:
                if linux.resources:
                    plan = limits.plan(
                        linux.resources, v1=here.v1, v2=here.v2_controllers if here.v2 else None
                    )
                    group.apply(plan.writes)
                    if plan.device_program:
                        group.restrict_devices(plan.device_program)
            except BaseException:
                group.destroy()
                raise
            return group
    except SkiffError as error:
        raise StepFailed("cgroup", text=str(error)) from error


def own_streams(streams: Streams, process: Process, mappings: Sequence[IdMapping]) -> None:
    """Give pipes to the process's user: programs open /dev/stdout anew, which asks for the right to."""
    owner = _on_host(process.user.uid, mappings)
    if not owner or process.terminal:
        return
    for fd in (streams.stdin, streams.stdout, streams.stderr):
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, owner, -1)


def _on_host(uid: int, mappings: Sequence[IdMapping]) -> int:
    for mapping in mappings:
        if mapping.container_id <= uid < mapping.container_id + mapping.size:
            return mapping.host_id + uid - mapping.container_id
    return uid


def _clone(
    plan: _Plan,
    group: cgroups.Group,
    charge: Callable[[tuple[int, ...]], init.Charge],
    meanwhile: Callable[[], None] | None,
) -> Container:
    ours, theirs = handshake.pair()
    tickets = group.tickets()
    try:
        prepared = charge(tickets.tasks)
        with step_failed("clone"):
            entered = namespaces.CLONE_NEWPID if plan.pid_fd >= 0 else 0
            pid, pidfd = clone_inside(plan.pid_fd, entered, plan.clone, cgroup=tickets.directory)
        if pid == 0:
            ours.close()
            init.become(prepared, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        tickets.close()
        theirs.close()
    container = Container(pid=pid, pidfd=pidfd, sync=ours, group=group)
    try:
        if meanwhile is not None:
            meanwhile()
        _escort(container, prepared, ours)
        if prepared.gate >= 0:
            ours.close()
            container.sync = None
    except BaseException:
        ours.close()
        kill(container)
        raise
    return container


def _escort(container: Container, charge: init.Charge, sync: socket.socket) -> None:
    """Answer init until it is ready."""
    spec = charge.spec
    while True:
        letter, riders = handshake.hear(sync)
        match letter:
            case handshake.MAP:
                with step_failed("write id maps"):
                    linux = spec.linux or Linux()
                    namespaces.write_id_maps(
                        container.pid, _rows(linux.uid_mappings), _rows(linux.gid_mappings)
                    )
                handshake.say(sync, handshake.GO)
            case handshake.HOOKS:
                state = structs.replace(charge.state, pid=container.pid)
                wanted = spec.hooks or Hooks()
                hooks.run("prestart", wanted.prestart, state)
                hooks.run("createRuntime", wanted.create_runtime, state)
                handshake.say(sync, handshake.GO, b"%d" % container.pid)
            case handshake.READY:
                if riders:
                    container.master = riders[0]
                container.namespaces = charge.cloned | charge.unshared | charge.entered
                container.owns_pids = bool(charge.cloned & namespaces.CLONE_NEWPID)
                return
            case _:
                descriptors.close_all(riders)
                raise StepFailed("init", text="init has ended while being set up")


def _rows(mappings: Sequence[IdMapping]) -> list[tuple[int, int, int]]:
    return [(m.container_id, m.host_id, m.size) for m in mappings]


def kill(container: Container) -> None:
    """End a container that was never started, and take it away; its group stays to be destroyed."""
    try:
        processes.pidfd_signal(container.pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    processes.reap(container.pid)
    descriptors.close_all([container.pidfd, container.master])
    if container.sync is not None:
        container.sync.close()


def clone_inside(target: int, entered: int, flags: int = 0, *, cgroup: int = -1) -> tuple[int, int]:
    """As processes.clone, but the child is born in other namespaces than ours: in those of `entered`.

    target: a pidfd; or, where only the pid namespace is entered, its file. entered: CLONE_NEWPID,
    CLONE_NEWNS, both or 0. We are back in our own namespaces and at our own root before this returns.
    """
    if not entered:
        return processes.clone(flags, cgroup=cgroup)
    own = os.pidfd_open(os.getpid())
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        namespaces.setns(target, entered)
        pid = -1
        try:
            pid, pidfd = processes.clone(flags, cgroup=cgroup)
        finally:
            if pid:  # in the child it would be refused
                namespaces.setns(own, entered)
                if (
                    entered & namespaces.CLONE_NEWNS
                ):  # which went to the namespace's root: ours may be another
                    os.fchdir(root)
                    os.chroot(".")
        return pid, pidfd
    finally:
        os.close(root)
        os.close(own)
