"""The zygote: a small, warm process without threads that forks one monitor per container.

    engine ── SEQPACKET pair, inherited ──► zygote ── fork ──► monitor
              Create + control channel

Everything a monitor or an init will ever need is imported before the first fork, compiled seccomp filters
are kept by
content, the heap is frozen: monitors share it. When the engine is gone the zygote sees the end of its
socket and
leaves; monitors stay.

It runs from a read-only, detached copy of the interpreter: /proc/PID/exe of a container's init leads there
until its
execve, and must not be a way to write the host's python (CVE-2019-5736).
"""

import gc
import os
import signal
import socket
import sys
from typing import NoReturn

from msgspec import DecodeError, json

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, mounts, processes
from skiff.oci.runtime import Seccomp, Spec
from skiff.runtime.isolation import create
from skiff.runtime.isolation.handshake import StepFailed, reason
from skiff.runtime.monitor.loop import Monitor
from skiff.runtime.protocol import (
    MAX_PACKET,
    Create,
    Failed,
    Message,
    Quit,
    StepError,
    decode_for_zygote,
    encode,
)

SEALED = "--sealed"
FILTERS_KEPT = 64

_decode_spec = json.Decoder(Spec).decode


def seal(arguments: list[str]) -> None:
    """Run this program again from a read-only copy of the interpreter, unless it does already. Does not
    return then.

    arguments: what follows the interpreter on the command line.
    """
    if SEALED in arguments:
        return
    interpreter = os.path.realpath("/proc/self/exe")
    tree = mounts.open_tree(interpreter)
    mounts.set_attributes(tree, mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID)
    os.set_inheritable(tree, True)
    # argv[0] is the real path: the interpreter finds its library by it.
    os.execv(f"/proc/self/fd/{tree}", [interpreter, *arguments, SEALED])


def serve(channel_fd: int) -> NoReturn:
    """Fork monitors until the engine is gone or says Quit."""
    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    fds.close_others([channel_fd])
    os.chdir("/")
    os.setsid()
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's or a service manager's; the socket's end is ours
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors reap themselves
    processes.set_dumpable(False)
    processes.set_name("skiff-zygote")
    here = cgroups.layout()
    filters: dict[Seccomp, bytes] = {}
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        try:
            packet, riders = fds.recv_packet(channel, MAX_PACKET)
        except OSError:
            os._exit(0)
        if not packet:
            os._exit(0)
        _serve_one(channel, packet, riders, here, filters)
        fds.close_all(riders)


def _serve_one(
    channel: socket.socket,
    packet: bytes,
    riders: list[int],
    here: cgroups.Layout,
    filters: dict[Seccomp, bytes],
) -> None:
    try:
        message = decode_for_zygote(packet)
    except DecodeError as error:
        _tell(riders, Failed(error=StepError("create", 22, str(error))))
        return
    if isinstance(message, Quit):
        os._exit(0)
    if len(riders) != 1:
        return
    try:
        spec, program = _prepare(message, filters)
    except StepFailed as failure:
        _tell(riders, Failed(error=failure.error))
        return
    if os.fork() == 0:
        _monitor(channel, message, spec, program, riders[0], here)


def _prepare(wish: Create, filters: dict[Seccomp, bytes]) -> tuple[Spec, bytes | None]:
    """The spec of the bundle, and its filter: compiled here, so that the next monitor has it too."""
    try:
        fd = os.open(f"{wish.bundle}/config.json", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            spec = _decode_spec(file.read())
    except OSError as error:
        raise StepFailed("config.json", error.errno or 0, reason(error)) from error
    except DecodeError as error:
        raise StepFailed("config.json", text=str(error)) from error
    profile = spec.linux.seccomp if spec.linux else None
    if profile is None:
        return spec, None
    program = filters.get(profile)
    if program is None:
        program = create.filter_of(spec)
        if program is not None:
            if len(filters) >= FILTERS_KEPT:
                filters.pop(next(iter(filters)))
            filters[profile] = program
    return spec, program


def _tell(riders: list[int], message: Message) -> None:
    for fd in riders:
        with socket.socket(fileno=os.dup(fd)) as control:
            try:
                control.send(encode(message), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except OSError:
                pass  # the engine gave up on it


def _monitor(
    channel: socket.socket,
    wish: Create,
    spec: Spec,
    program: bytes | None,
    control: int,
    here: cgroups.Layout,
) -> NoReturn:
    code = 1
    try:
        channel.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        processes.set_name("skiff-monitor")
        Monitor(wish, spec, socket.socket(fileno=control), here=here, seccomp_program=program).run()
        code = 0
    except (OSError, SkiffError, StepFailed) as error:
        print(f"skiff-monitor {wish.id}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)
