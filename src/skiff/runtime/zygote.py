"""The zygote: a small, warm process without threads that forks one monitor per container.

    engine ── SEQPACKET pair, inherited ──► zygote ──Create + control channel, a monitor's socket──► drafter
                                              └── fork ──► monitor, asleep ◄──────────────────────────┘

A monitor for the next container is forked ahead. Everything a monitor or an init will ever need is imported
before the first fork, and its code has run; compiled seccomp filters are kept by content, the heap is frozen:
monitors share it. When the engine is gone the zygote sees the end of its socket and leaves;
monitors stay.

It runs from a read-only, detached copy of the interpreter: /proc/PID/exe of a container's init leads there
until its execve, and must not be a way to write the host's python (CVE-2019-5736).
"""

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Sequence
from typing import NoReturn

from skiff.linux import fds, mounts, processes
from skiff.runtime.isolation import handshake
from skiff.runtime.protocol import MAX_PACKET
from skiff.runtime.workshop import Workshop

SEALED = "--sealed"
ADAPTED = 20  # after so many calls the interpreter has adapted its code, and writes no more into it
QUIET = 0.004  # seconds: the next request of a burst is there by then, and this start is in its init
_CREATE = b'{"t":"Create",'


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
    processes.default_hidden_signals()
    processes.set_dumpable(False)
    processes.set_name("skiff-zygote")
    workshop = Workshop()
    with contextlib.suppress(OSError, handshake.StepFailed):  # it can be done without
        for _ in range(ADAPTED):
            workshop.rehearse()
    gc.collect()
    gc.freeze()
    gc.disable()
    with contextlib.suppress(OSError):  # a monitor takes more memory then
        workshop.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors reap themselves
    _Zygote(channel, workshop).run()


class _Zygote:
    """Forks monitors, and keeps one asleep for the next container.

    It is forked in a quiet moment, so that it takes no processor from a start; in a burst of starts each
    monitor is forked when it is asked for. What it shall make is drafted by the drafter; where there is
    none, or none can be, the monitor has it built.

    It decodes nothing: what it writes to, every monitor that lives has a copy of.
    """

    def __init__(self, channel: socket.socket, workshop: Workshop) -> None:
        self.channel = channel
        self.workshop = workshop
        self.asleep: socket.socket | None = None  # the one that waits is sent its wish there
        self.drafter: socket.socket | None = None
        self._fork_drafter()

    def run(self) -> NoReturn:
        lessons = self.workshop.lessons
        while True:
            patience = QUIET if self.asleep is None else None
            readable = select.select((self.channel, lessons), (), (), patience)[0]
            if self.channel in readable:
                self._serve()
            elif lessons in readable:
                self.workshop.learn()
            else:
                self.asleep = self._fork(ahead=True)

    def _serve(self) -> None:
        try:
            packet, riders = fds.recv_packet(self.channel, MAX_PACKET)
        except OSError:
            packet = b""
        if not packet.startswith(_CREATE):  # Quit, or the engine is gone
            os._exit(0)
        monitor, self.asleep = self.asleep, None
        if monitor is None or _has_ended(monitor):
            monitor = self._fork(ahead=False)
        with monitor:
            if not self._drafted(packet, [*riders, monitor.fileno()]):
                _sent(monitor, packet, riders)
        fds.close_all(riders)

    def _drafted(self, packet: bytes, riders: Sequence[int]) -> bool:
        """Whether the drafter has it. One that has been killed is replaced."""
        for _ in range(2):
            if self.drafter is None:
                return False
            if _sent(self.drafter, packet, riders):
                return True
            self.drafter.close()
            self._fork_drafter()
        return False

    def _fork_drafter(self) -> None:
        self.drafter = None
        if self.workshop.spawner is None:
            return
        ours, theirs = handshake.pair()
        if os.fork() == 0:
            self._leave(ours)
            self.workshop.draft(theirs)
        theirs.close()
        self.drafter = ours

    def _fork(self, *, ahead: bool) -> socket.socket:
        """A monitor: where it is sent its wish, and leaves at the end."""
        ours, theirs = handshake.pair()
        if os.fork() == 0:
            self._leave(ours)
            self.workshop.live(theirs, ahead=ahead)
        theirs.close()
        return ours

    def _leave(self, ours: socket.socket) -> None:
        """In a child: nothing of what we hold is its."""
        for kept in (self.channel, self.asleep, self.drafter, ours):
            if kept is not None:
                kept.close()


def _has_ended(monitor: socket.socket) -> bool:
    """It says nothing while it sleeps: what can be read is its end."""
    return bool(select.select((monitor,), (), (), 0)[0])


def _sent(to: socket.socket, packet: bytes, riders: Sequence[int]) -> bool:
    try:
        fds.send_packet(to, packet, riders)
    except OSError:
        return False  # it has gone
    return True
