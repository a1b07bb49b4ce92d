"""Parent side: prepare the cgroup, clone init, hand over what it needs, run the hooks.

For a monitor (keeps the Container and starts it by `start`) and for a plain `skiff-oci create` alike: that
one passes its own gate and report descriptors (FIFOs) and exits; `skiff-oci start` writes one byte to the
gate.
"""

import os
import signal
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from msgspec import Struct, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, namespaces, processes, seccomp
from skiff.linux import fds as descriptors
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Hooks, IdMapping, Linux, Mount, Process, Seccomp, Spec, State
from skiff.runtime.isolation import cgroup as limits
from skiff.runtime.isolation import handshake, hooks, init, root_plan, rootfs
from skiff.runtime.isolation import seccomp as filters
from skiff.runtime.isolation.handshake import StepFailed, step_failed


class Streams(Struct, frozen=True, kw_only=True):
    """Descriptors init gets as 0, 1, 2 (the caller closes its copies after create).

    console: a connected unix stream socket; the terminal's master is sent over it (SCM_RIGHTS), as runc's
    --console-socket. Needs process.terminal; then stdin, stdout, stderr are not used.
    """

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    console: int = -1

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Streams":
        """Of stdin, stdout and stderr, in this order."""
        return cls(stdin=numbers[0], stdout=numbers[1], stderr=numbers[2])

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.stdin, self.stdout, self.stderr


class Container(Struct, kw_only=True):
    """A created container: init is set up and waits at the gate.

    pid: in our pid namespace. sync: our end of the handshake (None when an own gate was given). master: of
    the terminal when no console socket was given, else -1. namespaces: CLONE_NEW* flags in which it differs
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


class Namespaces(Struct):
    """Those of a container, sorted by what has to be done for each.

    clone: flags init is born with. unshare: those it makes itself, inside its group. entered: all it joins.
    """

    clone: int = 0
    unshare: int = 0
    entered: int = 0
    joined: tuple[tuple[int, int], ...] = ()
    user_fd: int = -1
    pid_fd: int = -1

    @property
    def has_user(self) -> bool:
        """Whether init is in a user namespace other than ours."""
        return bool(self.clone & namespaces.CLONE_NEWUSER) or self.user_fd >= 0

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
    filter: Filter | None = None,
    here: cgroups.Layout | None = None,
    flags: int = 0,
) -> Container:
    """Make the container; StepFailed with everything undone when a step fails.

    rootfs_mounts: what makes up the root; empty for spec.root.path below the bundle. with_init: see
    Create.init.
    gate: descriptor init reads one byte from before its execve; report: where it writes a StepError as JSON
    if that fails (closed on success). Both -1: the handshake socket does both, see start().
    filter: compiled from spec.linux.seccomp by the caller (cached there), else compiled here.
    here: the cgroup hierarchies, if the caller knows them.
    flags: further ones to clone init with.
    """
    here = here or cgroups.layout()
    plan = plan_namespaces(checked(spec)[0])
    group: cgroups.Group | None = None
    try:
        group = make_group(here, (spec.linux and spec.linux.cgroups_path) or f"/skiff/{id}")
        prepared = charge(
            plan,
            group,
            id=id,
            bundle=bundle,
            spec=spec,
            streams=streams,
            rootfs_mounts=rootfs_mounts,
            with_init=with_init,
            gate=gate,
            report=report,
            filter=filter,
        )
        try:
            return _clone(plan, group, prepared, flags)
        finally:
            prepared.trees.close()
    except BaseException:
        if group is not None:
            group.destroy()
        raise
    finally:
        plan.close()


def charge(
    plan: Namespaces,
    group: cgroups.Group,
    *,
    id: str,
    bundle: str,
    spec: Spec,
    streams: Streams,
    rootfs_mounts: Sequence[Mount] = (),
    with_init: bool = False,
    gate: int = -1,
    report: int = -1,
    filter: Filter | None = None,
) -> init.Charge:
    """What init needs, all of it opened; the group gets its limits. For the parameters see create.

    By the parent: inside a user namespace nothing of the host could be opened. StepFailed; nothing stays open
    then.
    """
    linux, process = checked(spec)
    limit(group, linux)
    steps = root_plan.plan(
        spec,
        group.layout,
        group.path,
        new_user=plan.has_user,
        new_cgroup=bool(plan.unshare & namespaces.CLONE_NEWCGROUP),
    )
    if linux.seccomp and filter is None:
        filter = filter_of(linux.seccomp)
    root_path = os.path.join(bundle, spec.root.path if spec.root else "rootfs")
    trees = rootfs.prepare(rootfs_mounts, root_path, steps)
    own_streams(streams, process, linux.uid_mappings)
    return init.Charge(
        spec=spec,
        process=process,
        state=state_of(id, bundle, spec, "creating"),
        steps=steps,
        trees=trees,
        at=root_path if spec.hooks and (rootfs_mounts or os.path.isdir(root_path)) else "/",
        joined=plan.joined,
        user_fd=plan.user_fd,
        unshared=plan.unshare,
        cloned=plan.clone,
        entered=plan.entered,
        new_user=bool(plan.clone & namespaces.CLONE_NEWUSER),
        streams=streams.numbers,
        console=streams.console,
        gate=gate,
        report=report,
        init=with_init,
        filter=filter,
    )


def start(container: Container) -> None:
    """Open the gate; returns once execve has succeeded. StepFailed; InitEnded."""
    sync = container.sync
    if sync is None:
        raise StepFailed("start", text="started already")
    container.sync = None
    with sync:
        try:
            handshake.say(sync, handshake.START)
            letter, _, riders = handshake.answered(sync)  # the end of the socket is success; ERROR raises
        except (BrokenPipeError, ConnectionResetError):
            raise handshake.InitEnded() from None
        descriptors.close_all(riders)
        if letter:
            raise StepFailed("start", text=f"unexpected {letter!r} from init")


def poststart(container: Container, spec: Spec, *, id: str, bundle: str) -> None:
    """The hooks of that name. StepFailed."""
    if spec.hooks and spec.hooks.poststart:
        hooks.run("poststart", spec.hooks.poststart, state_of(id, bundle, spec, "running", container.pid))


def filter_of(profile: Seccomp) -> Filter:
    """The compiled filter of a profile. StepFailed for one that cannot be, or an unknown flag."""
    try:
        return Filter(filters.compile(profile), seccomp.flags(profile.flags))
    except (SkiffError, ValueError) as error:
        raise StepFailed("seccomp", text=str(error)) from error


def state_of(id: str, bundle: str, spec: Spec, status: str, pid: int = 0) -> State:
    """What hooks and `state` are told."""
    return State(id=id, status=status, pid=pid, bundle=bundle, annotations=spec.annotations)


def checked(spec: Spec) -> tuple[Linux, Process]:
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


def plan_namespaces(linux: Linux) -> Namespaces:
    """What is to be done for each; those to join are open. StepFailed."""
    plan = Namespaces()
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
            plan.entered |= flag
            with step_failed(f"join {namespace.path}"):
                fd = namespaces.open_namespace(namespace.path)
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


def make_group(here: cgroups.Layout, path: str) -> cgroups.Group:
    """The group of a container, without limits so far. StepFailed."""
    try:
        with step_failed(f"cgroup {path}"):
            return cgroups.create(here, path)
    except SkiffError as error:
        raise StepFailed("cgroup", text=str(error)) from error


def limit(group: cgroups.Group, linux: Linux) -> None:
    if not linux.resources:
        return
    here = group.layout
    try:
        with step_failed(f"cgroup {group.path}"):
            plan = limits.plan(linux.resources, v1=here.v1, v2=here.v2_controllers if here.v2 else None)
            group.apply(plan.writes)
            if plan.device_program:
                group.restrict_devices(plan.device_program)
    except SkiffError as error:
        raise StepFailed("cgroup", text=str(error)) from error


def own_streams(streams: Streams, process: Process, mappings: Sequence[IdMapping]) -> None:
    """Give pipes to the process's user: programs open /dev/stdout anew, which asks for the right to."""
    owner = _on_host(process.user.uid, mappings)
    if not owner or process.terminal:
        return
    for fd in streams.numbers:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, owner, -1)


def _on_host(uid: int, mappings: Sequence[IdMapping]) -> int:
    for mapping in mappings:
        if mapping.container_id <= uid < mapping.container_id + mapping.size:
            return mapping.host_id + uid - mapping.container_id
    return uid


def _clone(plan: Namespaces, group: cgroups.Group, prepared: init.Charge, flags: int) -> Container:
    container = born(group, plan.clone | flags, plan.pid_fd, lambda sync: init.become(lambda: prepared, sync))
    try:
        escort(container, lambda: (prepared.spec, prepared.state))
        if prepared.gate >= 0 and container.sync is not None:
            container.sync.close()
            container.sync = None
    except BaseException:
        kill(container)
        raise
    return container


def born(
    group: cgroups.Group, flags: int, pid_namespace: int, live: Callable[[socket.socket], NoReturn]
) -> Container:
    """Clone init into its group: it lives by `live`, with its end of the handshake. StepFailed.

    flags: of clone(2), the namespaces it is born with. pid_namespace: one to be born in, or -1.
    """
    ours, theirs = handshake.pair()
    try:
        with step_failed("clone"):
            tickets = group.tickets()
            try:
                entered = namespaces.CLONE_NEWPID if pid_namespace >= 0 else 0
                pid, pidfd = clone_inside(
                    pid_namespace, entered, lambda: processes.clone(flags, cgroup=tickets.directory)
                )
                if pid == 0:
                    ours.close()
                    init.settle(tickets, theirs)
                    live(theirs)
            finally:
                tickets.close()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Container(
        pid=pid, pidfd=pidfd, sync=ours, group=group, owns_pids=bool(flags & namespaces.CLONE_NEWPID)
    )


def escort(container: Container, made_of: Callable[[], tuple[Spec, State]]) -> None:
    """Answer init until it is ready. StepFailed.

    made_of: asked only when init wants its id maps or its hooks.
    """
    sync = container.sync
    if sync is None:
        raise StepFailed("init", text="nobody is to be escorted")
    while True:
        letter, body, riders = handshake.hear(sync)
        match letter:
            case handshake.MAP:
                with step_failed("write id maps"):
                    linux = made_of()[0].linux or Linux()
                    namespaces.write_id_maps(
                        container.pid, _rows(linux.uid_mappings), _rows(linux.gid_mappings)
                    )
                handshake.say(sync, handshake.GO)
            case handshake.HOOKS:
                spec, state = made_of()
                told = structs.replace(state, pid=container.pid)
                wanted = spec.hooks or Hooks()
                hooks.run("prestart", wanted.prestart, told)
                hooks.run("createRuntime", wanted.create_runtime, told)
                handshake.say(sync, handshake.GO, b"%d" % container.pid)
            case handshake.READY:
                if riders:
                    container.master = riders[0]
                container.namespaces = int(body)
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
    with suppress(ChildProcessError):  # our sibling, perhaps: then our parent reaps it
        processes.reap(container.pid)
    descriptors.close_all([container.pidfd, container.master])
    if container.sync is not None:
        container.sync.close()


def clone_inside(target: int, entered: int, clone: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """What `clone` says (see processes.clone), its child born in other namespaces than ours: `entered`.

    target: a pidfd; or, where only the pid namespace is entered, its file. entered: CLONE_NEWPID,
    CLONE_NEWNS, both or 0. We are back in our own namespaces and at our own root before this returns.
    """
    if not entered:
        return clone()
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # By files of their own: a pidfd of ours would lead to where we are by then.
    own = [
        (namespaces.open_namespace(f"/proc/self/ns/{name}"), flag)
        for name, flag in (("mnt", namespaces.CLONE_NEWNS), ("pid", namespaces.CLONE_NEWPID))
        if entered & flag
    ]
    try:
        namespaces.setns(target, entered)
        pid = -1
        try:
            pid, pidfd = clone()
        finally:
            if pid:  # in the child it would be refused
                for fd, flag in own:
                    namespaces.setns(fd, flag)
                if entered & namespaces.CLONE_NEWNS:  # led to the namespace's root: ours may be another
                    os.fchdir(root)
                    os.chroot(".")
        return pid, pidfd
    finally:
        descriptors.close_all([root, *(fd for fd, _ in own)])
