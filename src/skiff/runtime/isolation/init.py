"""Child side: becomes the container. Cloned by create.py, ends in execve.

    cgroup → user → other namespaces → hooks → root → hooks → host names → pivot → terminal → READY … START
    → hooks → identity → execve

Until the pivot the host's files are in sight, afterwards only the container's: nothing is imported or
looked up late.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import NoReturn

from msgspec import Struct, structs

from skiff.linux import cgroups, fds, mounts, namespaces, processes, safepath
from skiff.linux.libc import check, libc
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Hooks, Process, Spec, State
from skiff.runtime.isolation import handshake, hooks, program, rootfs
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.isolation.root_plan import Step
from skiff.runtime.protocol import StepError


class Charge(Struct, kw_only=True):
    """All that init needs, opened; see create.charge.

    joined: (descriptor, flag) of namespaces to join, the user namespace apart in user_fd. unshared: flags
    still to unshare once inside the cgroup; cloned: those it was born with; entered: those joined. new_user:
    the parent will write our id maps. at: where the root is attached. gate, report: instead of the socket,
    or -1.
    """

    spec: Spec
    process: Process
    state: State
    steps: Sequence[Step]
    trees: rootfs.Trees
    at: str
    joined: tuple[tuple[int, int], ...]
    user_fd: int
    unshared: int
    cloned: int
    entered: int
    new_user: bool
    streams: tuple[int, int, int]
    console: int
    gate: int
    report: int
    init: bool
    filter: Filter | None


def settle(tickets: cgroups.Tickets, sync: socket.socket) -> None:
    """Just born: into the groups, and nothing left of what our parent was."""
    try:
        processes.default_signals()
        processes.set_dumpable(False)
        os.setsid()
        with step_failed("join cgroup"):
            cgroups.join(tickets.tasks)
        tickets.close()
    except StepFailed as failure:
        handshake.tell(sync, failure.error)
        os._exit(1)


def become(prepare: Callable[[], Charge], sync: socket.socket) -> NoReturn:
    """Never returns; a failure goes over the socket (or the report descriptor) before the exit."""
    try:
        charge = prepare()
        _set_up(charge, sync)
        _wait(charge, sync)
        if charge.report >= 0:
            # From here on errors are for whoever opens the gate.
            report = charge.report
            try:
                _run(charge, sync)
            except StepFailed as failure:
                os.write(report, handshake.error_body(failure.error))
            os._exit(1)
        _run(charge, sync)
    except StepFailed as failure:
        handshake.tell(sync, failure.error)
    except (BrokenPipeError, ConnectionAbortedError):
        pass  # the parent is gone
    except BaseException as error:
        handshake.tell(sync, StepError("init", 0, f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


def _set_up(charge: Charge, sync: socket.socket) -> None:
    spec = charge.spec
    _join(charge, sync)
    wanted = spec.hooks or Hooks()
    state = charge.state
    if wanted.prestart or wanted.create_runtime or wanted.create_container or wanted.start_container:
        handshake.say(sync, handshake.HOOKS)
        packet, _ = fds.recv_packet(sync, handshake.LIMIT)
        if packet[:1] != handshake.GO:
            raise ConnectionAbortedError(103, "the parent has gone")
        state = structs.replace(state, pid=int(packet[1:] or b"0"))
    rootfs.build(charge.trees, charge.steps, charge.at)
    hooks.run("createContainer", wanted.create_container, state)
    _names(spec)
    root = charge.trees.root
    master, slave = -1, -1
    if charge.process.terminal:
        master, slave = _console(charge, root)
    cwd = os.path.normpath("/" + charge.process.cwd)
    if cwd != "/":
        try:
            os.close(safepath.make_directories(root, cwd))
        except OSError:
            pass  # a read-only root, perhaps; entering it tells
    with step_failed("pivot_root"):
        os.fchdir(root)
        mounts.pivot_root_here()
    rootfs.finish(
        root,
        readonly=bool(spec.root and spec.root.readonly),
        propagation=spec.linux.rootfs_propagation if spec.linux else "",
    )
    with step_failed("stdio"):
        program.take_streams(charge.streams, slave)
    apart = charge.cloned | charge.unshared | charge.entered
    if master >= 0 and charge.console >= 0:
        with step_failed("console socket"), socket.socket(fileno=os.dup(charge.console)) as console:
            fds.send_packet(console, b"/dev/ptmx", [master])
        handshake.say(sync, handshake.READY, b"%d" % apart)
    else:
        handshake.say(sync, handshake.READY, b"%d" % apart, [master] if master >= 0 else ())
    if master >= 0:
        os.close(master)
    charge.state = structs.replace(state, status="created")


def _join(charge: Charge, sync: socket.socket) -> None:
    """Into the namespaces. Our own user namespace first: it owns the others."""
    if charge.new_user:
        handshake.say(sync, handshake.MAP)
        handshake.expect(sync, handshake.GO)
    if charge.user_fd >= 0:
        with step_failed("join user namespace"):
            namespaces.setns(charge.user_fd, namespaces.CLONE_NEWUSER)
    if charge.new_user or charge.user_fd >= 0:
        with step_failed("become root of the user namespace"):
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            processes.set_dumpable(False)
    for fd, flag in charge.joined:
        with step_failed("join namespace"):
            namespaces.setns(fd, flag)
    with step_failed("unshare namespaces"):
        namespaces.unshare(charge.unshared)
    if (charge.cloned | charge.unshared) & namespaces.CLONE_NEWNET:
        with step_failed("raise the loopback"):
            namespaces.raise_loopback()


def _names(spec: Spec) -> None:
    """Host name, domain name and sysctls. The host's /proc shows the values of our own namespaces."""
    if spec.hostname:
        name = spec.hostname.encode()
        with step_failed("set hostname"):
            check(libc.sethostname(name, len(name)), "sethostname")
    if spec.domainname:
        name = spec.domainname.encode()
        with step_failed("set domainname"):
            check(libc.setdomainname(name, len(name)), "setdomainname")
    for key, value in (spec.linux.sysctl if spec.linux else {}).items():
        with step_failed(f"sysctl {key}"):
            fd = os.open(f"/proc/sys/{key.replace('.', '/')}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)


def _console(charge: Charge, root: int) -> tuple[int, int]:
    """(master, slave) in the container's own devpts, bound on /dev/console."""
    with step_failed("open /dev/pts/ptmx"):
        ptmx = safepath.open_in_root(root, "/dev/pts/ptmx")
    master, slave = program.terminal(charge.process, safepath.fd_path(ptmx))
    os.close(ptmx)
    with step_failed("mount /dev/console"):
        target = safepath.make_mount_point(root, "/dev/console", directory=False)
        mounts.mount(safepath.fd_path(slave), safepath.fd_path(target), None, mounts.MS_BIND)
        os.close(target)
    return master, slave


def _wait(charge: Charge, sync: socket.socket) -> None:
    if charge.gate >= 0:
        # Whoever made us leaves now; the gate is opened by somebody else.
        sync.close()
        if not os.read(charge.gate, 1):
            os._exit(0)
        return
    handshake.expect(sync, handshake.START)


def _run(charge: Charge, sync: socket.socket) -> NoReturn:
    if charge.spec.hooks:
        hooks.run("startContainer", charge.spec.hooks.start_container, charge.state)
    path, environment = program.enter(charge.process, charge.filter)
    if charge.init:
        program.run_below_init(path, charge.process, environment, sync)
    program.execute(path, charge.process, environment, sync)
