"""skiff-oci create, start, run and exec: from a bundle to processes, over runtime/isolation.

Nothing stays behind: after `create` there is only init, which waits at its FIFO for `start`.
"""

import argparse
import contextlib
import datetime
import errno
import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from skiff.errors import Conflict, InvalidParameter
from skiff.linux import capabilities, fds, processes, terminals
from skiff.oci import runtime as oci
from skiff.runtime.isolation import create as isolation
from skiff.runtime.isolation import handshake, hooks, join
from skiff.runtime.oci_store import Record, Store, group_of, read_spec, start_time


def make(store: Store, args: argparse.Namespace, *, detached: bool) -> tuple[isolation.Container, oci.Spec]:
    """Create the container and write it down. detached: it waits at the FIFO for a `start`."""
    bundle = os.path.realpath(args.bundle)
    spec = read_spec(os.path.join(bundle, "config.json"))
    process = spec.process or oci.Process()
    if process.terminal and detached and not args.console_socket:
        raise InvalidParameter("cannot allocate tty if runc will detach without setting console socket")
    if args.console_socket and not process.terminal:
        raise InvalidParameter("cannot use console socket if runc will not detach or allocate tty")
    store.claim(args.id)
    gate = report = console = -1
    try:
        shutil.copyfile(os.path.join(bundle, "config.json"), store.path(args.id, "config.json"))
        if detached:
            gate, report = (_fifo(store.path(args.id, name)) for name in ("gate", "report"))
        console = connect_console(args.console_socket)
        container = isolation.create(
            id=args.id,
            bundle=bundle,
            spec=spec,
            streams=isolation.Streams(console=console),
            gate=gate,
            report=report,
        )
    except BaseException:
        store.remove(args.id)
        raise
    finally:
        fds.close_all([gate, report, console])
    store.save(
        Record(
            id=args.id,
            pid=container.pid,
            started=start_time(container.pid),
            bundle=bundle,
            rootfs=os.path.normpath(os.path.join(bundle, spec.root.path if spec.root else "rootfs")),
            cgroup=container.group.path,
            created=datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
            namespaces=container.namespaces,
            owns_pids=container.owns_pids,
        )
    )
    write_pid(args.pid_file, container.pid)
    return container, spec


def _fifo(path: str) -> int:
    os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # both ends, so that neither opening nor reading ends


def connect_console(path: str) -> int:
    """A connected stream socket, or -1 for no path."""
    if not path:
        return -1
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as console:
        console.connect(path)
        return console.detach()


def write_pid(path: str, pid: int) -> None:
    if path:
        fresh = f"{path}.new"
        with open(fresh, "w", encoding="ascii") as file:
            file.write(str(pid))
        os.rename(fresh, path)


def create(store: Store, args: argparse.Namespace) -> int:
    make(store, args, detached=True)
    return 0


def start(store: Store, args: argparse.Namespace) -> int:
    record = store.load(args.id)
    status = store.status(record)
    if status == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if status != "created":
        raise Conflict(f"cannot start an already {status} container")
    report = os.open(store.path(args.id, "report"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            gate = os.open(store.path(args.id, "gate"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            raise Conflict("cannot start a container that has stopped") from None
        os.unlink(store.path(args.id, "gate"))
        os.write(gate, b"x")
        os.close(gate)
        os.set_blocking(report, True)
        body = b"".join(iter(lambda: os.read(report, 4096), b""))
    finally:
        os.close(report)
    if body:
        raise handshake.failed(body)
    spec = store.spec(args.id)
    if spec.hooks and spec.hooks.poststart:
        state = isolation.state_of(args.id, record.bundle, spec, "running", record.pid)
        hooks.run("poststart", spec.hooks.poststart, state)
    return 0


def run(store: Store, args: argparse.Namespace) -> int:
    container, spec = make(store, args, detached=bool(args.detach or args.console_socket))
    if args.detach or args.console_socket:
        try:
            start(store, args)
        except BaseException:
            destroy(store, store.load(args.id))
            raise
        if args.detach:
            return 0
        code = wait(container.pid, container.pidfd, -1)
    else:
        try:
            isolation.start(container)
            isolation.poststart(container, spec, id=args.id, bundle=os.path.realpath(args.bundle))
            code = wait(container.pid, container.pidfd, container.master)
        except BaseException:
            destroy(store, store.load(args.id))
            raise
    if not args.keep:
        destroy(store, store.load(args.id))
    return code


_PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def wait(pid: int, pidfd: int, master: int) -> int:
    """Wait for a child, passing on signals and, with a terminal, what is typed and shown. Its exit code."""
    for number in _PASSED_ON:
        signal.signal(number, lambda received, _: _quietly(lambda: processes.pidfd_signal(pidfd, received)))
    if master >= 0:
        relay(master, pidfd)
    return processes.exit_code(processes.reap(pid))[0]


def _quietly(act: Callable[[], object]) -> None:
    with contextlib.suppress(ProcessLookupError):
        act()


def relay(master: int, pidfd: int) -> None:
    """Our own terminal ↔ the container's, until its end."""
    before = termios.tcgetattr(0) if os.isatty(0) else None

    def resize(*_: object) -> None:
        terminals.set_window_size(master, *terminals.window_size(0))

    if before:
        tty.setraw(0)
        resize()
        signal.signal(signal.SIGWINCH, resize)
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(0, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    try:
        ended = False
        while True:
            ready = dict(poll.poll(0 if ended else None))
            if master in ready:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    return  # EIO: the last user of the terminal has closed it
                while data:
                    data = data[os.write(1, data) :]
            elif ended:
                return
            ended = ended or pidfd in ready
            if 0 in ready and not ended:
                typed = os.read(0, 65536)
                if typed:
                    os.write(master, typed)
                else:
                    poll.unregister(0)
    finally:
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def destroy(store: Store, record: Record) -> None:
    """End what still runs, take the group and the directory away, run the poststop hooks."""
    group = group_of(record)
    if start_time(record.pid) == record.started:
        pidfd = os.pidfd_open(record.pid)
        _quietly(lambda: processes.pidfd_signal(pidfd, signal.SIGKILL))
        if group.exists():
            group.signal_all(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            processes.reap(record.pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(10_000)
        os.close(pidfd)
    elif group.exists():
        group.signal_all(signal.SIGKILL)
    group.destroy(patience=10)
    spec = store.spec(record.id)
    store.remove(record.id)
    if spec.hooks and spec.hooks.poststop:
        state = isolation.state_of(record.id, record.bundle, spec, "stopped")
        try:
            hooks.run("poststop", spec.hooks.poststop, state)
        except handshake.StepFailed as failure:
            # The container is gone; the runtime-spec wants it logged and nothing else.
            sys.stderr.write(f"skiff-oci: {failure}\n")


def execute(store: Store, args: argparse.Namespace) -> int:
    record = store.load(args.id)
    if store.status(record) not in ("running", "created"):
        raise Conflict(f"cannot exec in a {store.status(record)} container")
    spec = store.spec(args.id)
    process = exec_process(spec.process or oci.Process(), args)
    if process.terminal and args.detach and not args.console_socket:
        raise InvalidParameter("cannot allocate tty if runc will detach without setting console socket")
    console = connect_console(args.console_socket)
    container = isolation.Container(
        pid=record.pid,
        pidfd=os.pidfd_open(record.pid),
        sync=None,
        group=group_of(record),
        namespaces=record.namespaces,
        owns_pids=record.owns_pids,
    )
    linux = spec.linux or oci.Linux()
    joined = join.join(
        container,
        process,
        isolation.Streams(),
        mappings=linux.uid_mappings,
        filter=isolation.filter_of(spec.linux.seccomp) if spec.linux and spec.linux.seccomp else None,
    )
    write_pid(args.pid_file, joined.pid)
    if console >= 0:
        with socket.socket(fileno=console) as receiver:
            socket.send_fds(receiver, [b"/dev/ptmx"], [joined.master])
        os.close(joined.master)
        joined.master = -1
    if args.detach:
        return 0
    return wait(joined.pid, joined.pidfd, joined.master)


def exec_process(base: oci.Process, args: argparse.Namespace) -> oci.Process:
    """The process to run: from a file, or the container's own with another command line."""
    if args.process:
        try:
            with open(args.process, "rb") as file:
                return msgspec.json.decode(file.read(), type=oci.Process)
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"{args.process}: {error}") from error
    if not args.command:
        raise InvalidParameter("exec needs a command, or a process file")
    changes: dict[str, Any] = {"args": tuple(args.command), "terminal": args.tty}
    if args.cwd:
        changes["cwd"] = args.cwd
    if args.env:
        changes["env"] = (*base.env, *args.env)
    if args.user:
        uid, _, gid = args.user.partition(":")
        if not uid.isdigit() or (gid and not gid.isdigit()):
            raise InvalidParameter(f"invalid user {args.user!r}: expected uid[:gid]")
        changes["user"] = structs.replace(base.user, uid=int(uid), gid=int(gid or base.user.gid))
    if args.additional_gids:
        user = changes.get("user", base.user)
        changes["user"] = structs.replace(user, additional_gids=tuple(args.additional_gids))
    if args.no_new_privs:
        changes["no_new_privileges"] = True
    if args.cap:
        changes["capabilities"] = _with_capabilities(base.capabilities or oci.Capabilities(), args.cap)
    return structs.replace(base, **changes)


def _with_capabilities(had: oci.Capabilities, more: Sequence[str]) -> oci.Capabilities:
    unknown = set(more) - capabilities.NUMBERS.keys()
    if unknown:
        raise InvalidParameter(f"unknown capability {min(unknown)}")
    extra = tuple(more)
    return structs.replace(
        had,
        bounding=(*had.bounding, *extra),
        effective=(*had.effective, *extra),
        permitted=(*had.permitted, *extra),
    )
