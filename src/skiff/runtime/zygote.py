"""The zygote: a small, warm process without threads that forks one monitor per container.

    engine ── SEQPACKET pair, inherited ──► zygote ── fork ──► monitor
              Create + control channel

One monitor is forked ahead and waits: a start then saves the fork and the copying of the pages it touches.
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
import select
import signal
import socket
import sys
from typing import NoReturn

from msgspec import DecodeError, json, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, mounts, processes
from skiff.oci.runtime import Linux, Seccomp, Spec
from skiff.runtime.isolation import cgroup as limits
from skiff.runtime.isolation import create, handshake
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
QUIET = 0.004  # seconds: the next request of a burst is there by then, and this start is in its init

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
    processes.default_hidden_signals()
    processes.set_dumpable(False)
    processes.set_name("skiff-zygote")
    gc.collect()
    gc.freeze()
    gc.disable()
    workshop = _Workshop(channel)
    while True:
        try:
            if not select.select([channel], [], [], workshop.patience())[0]:
                workshop.keep_one_ready()
                continue
            packet, riders = fds.recv_packet(channel, MAX_PACKET)
        except OSError:
            os._exit(0)
        if not packet:
            os._exit(0)
        workshop.serve(packet, riders)
        fds.close_all(riders)


class _Workshop:
    """Forks monitors, and keeps one ready: forked ahead, its pages warm, waiting for its wish.

    It is made in a quiet moment, so that it takes no processor from a start; in a burst of starts each
    monitor is forked when it is asked for.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.here = cgroups.layout()
        self.filters: dict[Seccomp, bytes] = {}
        self.ready: socket.socket | None = None
        self.example = b""  # the latest config.json: what the next one will be like

    def patience(self) -> float | None:
        """How long to wait for a request before one is made ready, in seconds; None: it is there already."""
        return None if self.ready else QUIET

    def serve(self, packet: bytes, riders: list[int]) -> None:
        try:
            message = decode_for_zygote(packet)
        except DecodeError as error:
            _tell(riders, Failed(error=StepError("create", 22, str(error))))
            return
        if isinstance(message, Quit):
            os._exit(0)
        if len(riders) != 1 or self._hand_over(packet, riders, message):
            return
        prepared = self._prepare(message, riders)
        if prepared and os.fork() == 0:
            self._become(message, *prepared, riders[0])

    def _hand_over(self, packet: bytes, riders: list[int], wish: Create) -> bool:
        """Give it to the one that waits; False when there is none."""
        if self.ready is None:
            return False
        with self.ready as waiting:
            self.ready = None
            try:
                fds.send_packet(waiting, packet, riders)
            except OSError:
                return False  # it has gone
        try:
            self.example = _config(wish)
        except StepFailed:
            pass  # the monitor tells
        return True

    def keep_one_ready(self) -> None:
        ours, theirs = handshake.pair()
        self._learn()
        if os.fork() == 0:
            ours.close()
            self._wait(theirs)
        theirs.close()
        self.ready = ours

    def _wait(self, wishes: socket.socket) -> NoReturn:
        """In the child: until the wish comes, or the zygote goes."""
        try:
            self.channel.close()
            processes.set_name("skiff-ready")
            self._rehearse()
            packet, riders = fds.recv_packet(wishes, MAX_PACKET)
            wishes.close()
            message = decode_for_zygote(packet) if packet else None
            if isinstance(message, Create) and (prepared := self._prepare(message, riders)):
                self._become(message, *prepared, riders[0])
        except (OSError, SkiffError, StepFailed) as error:
            print(f"skiff-ready: {error}", file=sys.stderr, flush=True)  # the zygote forks another
        finally:
            os._exit(0)

    def _learn(self) -> None:
        """The filter of the latest container, if its monitor had to compile it."""
        try:
            _read(self.example, self.filters)
        except StepFailed:
            self.example = b""

    def _rehearse(self) -> None:
        """Make a container that cannot be: like the latest, but in a group that no kernel has.

        A forked process copies each page of the heap at its first use, even for reading; so that is done now.
        """
        if not self.example:
            return
        example, _ = _read(self.example, self.filters)
        linux = example.linux or Linux()
        if linux.resources:
            limits.plan(
                linux.resources, v1=self.here.v1, v2=self.here.v2_controllers if self.here.v2 else None
            )
        impossible = structs.replace(example, linux=structs.replace(linux, cgroups_path="no:such:group"))
        wish = decode_for_zygote(encode(Create(id="rehearsal", bundle="/proc/self")))
        ours, theirs = handshake.pair()
        with ours, theirs:
            assert isinstance(wish, Create)
            monitor = Monitor(wish, impossible, ours, here=self.here, seccomp_program=None)
            monitor.run()
            os.close(monitor.bundle)

    def _prepare(self, wish: Create, riders: list[int]) -> tuple[Spec, bytes | None] | None:
        try:
            self.example = _config(wish)
            return _read(self.example, self.filters)
        except StepFailed as failure:
            _tell(riders, Failed(error=failure.error))
            return None

    def _become(self, wish: Create, spec: Spec, program: bytes | None, control: int) -> NoReturn:
        code = 1
        try:
            self.channel.close()
            self.example = b""
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            processes.set_name("skiff-monitor")
            Monitor(wish, spec, socket.socket(fileno=control), here=self.here, seccomp_program=program).run()
            code = 0
        except (OSError, SkiffError, StepFailed) as error:
            print(f"skiff-monitor {wish.id}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)


def _config(wish: Create) -> bytes:
    try:
        fd = os.open(f"{wish.bundle}/config.json", os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        raise StepFailed("config.json", error.errno or 0, reason(error)) from error


def _read(config: bytes, filters: dict[Seccomp, bytes]) -> tuple[Spec, bytes | None]:
    """The spec, and its filter: compiled once, kept for the next monitor."""
    try:
        spec = _decode_spec(config)
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
