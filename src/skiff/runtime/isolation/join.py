"""Exec: a further process in a running container.

    we go to the mount and pid namespace → clone, into the v2 cgroup → we go back
    the child: v1 cgroups by `tasks` → one setns for all other namespaces → terminal → identity → execve

The child carries nothing of the host over: every descriptor is close-on-exec, and its directory and root come
with the mount namespace. Those who may trace it (the container has CAP_SYS_PTRACE) see it from its birth:
so it is born where it has no path to a file of the host.
"""

import errno
import os
import socket
from typing import Final, NoReturn

from msgspec import Struct

from skiff.linux import capabilities, cgroups, namespaces, processes
from skiff.linux import fds as descriptors
from skiff.linux.seccomp import Filter
from skiff.linux.spawn import Spawner
from skiff.oci.runtime import IdMapping, Process
from skiff.runtime.isolation import entering, handshake
from skiff.runtime.isolation import program as last_steps
from skiff.runtime.isolation.create import Container, Streams, clone_inside, own_streams
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.protocol import StepError

# What the child is born in; the cgroup namespace is none of it: from inside, the v2 group is out of reach.
BORN_IN: Final = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID


class Joined(Struct):
    """A running process. master: of its terminal, or -1."""

    pid: int
    pidfd: int
    master: int = -1


def join(
    container: Container,
    process: Process,
    streams: Streams,
    *,
    mappings: tuple[IdMapping, ...] = (),
    filter: Filter | None = None,
    spawner: Spawner | None = None,
) -> Joined:
    """Returns once execve has succeeded. StepFailed; nothing is left then.

    mappings: uids of the container's user namespace, to give the pipes to the right user. spawner: given
    where nobody may trace the child; what it cannot do, or where anything fails, is done by a fork.
    """
    own_streams(streams, process, mappings)
    if spawner is not None and not container.namespaces & namespaces.CLONE_NEWUSER:
        joined = _spawned(spawner, container, process, streams, filter)
        if joined is not None:
            return joined
    ours, theirs = handshake.pair()
    tickets = container.group.tickets()
    try:
        with step_failed("clone"):
            pid, pidfd = _born(container, tickets.directory)
        if pid == 0:
            ours.close()
            _become(container, process, streams, tickets.tasks, filter, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        tickets.close()
        theirs.close()
    joined = Joined(pid, pidfd)
    with ours:
        try:
            while True:
                letter, _, riders = handshake.hear(ours)
                if riders:
                    joined.master = riders[0]
                if not letter:
                    return joined
        except BaseException:
            processes.reap(pid)
            descriptors.close_all([pidfd, joined.master])
            raise


def _spawned(
    spawner: Spawner, container: Container, process: Process, streams: Streams, filter: Filter | None
) -> Joined | None:
    """The same by a spawned child, or None: then nothing has happened."""
    if process.terminal or min(streams.numbers) < 3:
        return None
    tickets = container.group.tickets()
    try:
        program = spawner.program()
        entering.settle(program, tickets.tasks)
        others = container.namespaces & ~namespaces.CLONE_NEWPID
        if others:
            program.call("setns", container.pidfd, others)
        entering.take_streams(program, streams.numbers)
        _, have, _ = capabilities.get_sets()
        execves = entering.enter(program, process, filter, have=have)
        image = program.image()
        pid, pidfd = clone_inside(
            container.pidfd,
            container.namespaces & namespaces.CLONE_NEWPID,
            lambda: spawner.spawn(*image, cgroup=tickets.directory, wait=True),
        )
    except (entering.Unplanned, OSError):
        return None
    finally:
        tickets.close()
    if spawner.executes(execves):
        return Joined(pid, pidfd)
    processes.reap(pid)
    os.close(pidfd)
    return None


def _born(container: Container, directory: int) -> tuple[int, int]:
    """Clone into the container's v2 group; or where its init is, if it has divided its group among others.

    admin-guide/cgroup-v2.rst, No Internal Process Constraint.
    """
    entered = container.namespaces & BORN_IN
    try:
        return clone_inside(container.pidfd, entered, lambda: processes.clone(cgroup=directory))
    except OSError as error:
        if error.errno != errno.EBUSY or directory < 0:
            raise
    directory = container.group.open_of(container.pid)
    try:
        return clone_inside(container.pidfd, entered, lambda: processes.clone(cgroup=directory))
    finally:
        os.close(directory)


def _become(
    container: Container,
    process: Process,
    streams: Streams,
    tasks: tuple[int, ...],
    filter: Filter | None,
    sync: socket.socket,
) -> NoReturn:
    try:
        processes.default_signals()
        processes.set_dumpable(False)
        os.setsid()
        with step_failed("join cgroup"):
            cgroups.join(tasks)
        others = container.namespaces & ~BORN_IN
        with step_failed("join namespaces"):
            if others:
                namespaces.setns(container.pidfd, others)
            if others & namespaces.CLONE_NEWUSER:
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                processes.set_dumpable(False)
        slave = -1
        if process.terminal:
            master, slave = last_steps.terminal(process, "/dev/pts/ptmx")
            handshake.say(sync, handshake.READY, b"", [master])
            os.close(master)
        with step_failed("stdio"):
            last_steps.take_streams(streams.numbers, slave)
        path, environment = last_steps.enter(process, filter)
        last_steps.execute(path, process, environment, sync)
    except StepFailed as failure:
        handshake.tell(sync, failure.error)
    except BaseException as error:
        handshake.tell(sync, StepError("exec", 0, f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)
