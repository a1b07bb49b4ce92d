"""The zygote: a small, warm process without threads that forks one monitor per container.

    engine ── SEQPACKET pair, inherited ──► zygote ── fork ──► monitor
              Expect, Create + control channel

For the container that is expected next a monitor and its init are made ahead: its start then saves two
forks, the making of its cgroup and the copying of the pages they touch. Everything a monitor or an init will
ever need is imported before the first fork, compiled seccomp filters are kept by content, the heap is frozen:
monitors share it. When the engine is gone the zygote sees the end of its socket and leaves; monitors stay.

It runs from a read-only, detached copy of the interpreter: /proc/PID/exe of a container's init leads there
until its execve, and must not be a way to write the host's python (CVE-2019-5736).
"""

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from skiff.linux import fds, mounts, processes
from skiff.runtime.isolation import handshake
from skiff.runtime.protocol import MAX_PACKET
from skiff.runtime.workshop import Workshop

SEALED = "--sealed"
QUIET = 0.004  # seconds: the next request of a burst is there by then, and this start is in its init
_CREATE, _EXPECT = b'{"t":"Create",', b'{"t":"Expect",'


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
    _Zygote(channel).run()


class _Zygote:
    """Forks monitors, and keeps one ready for the container that is expected next.

    That is a monitor asleep, a builder that waits for its wish, and an init that waits for its order. They
    are made in a quiet moment, so that they take no processor from a start; in a burst of starts each
    monitor is forked when it is asked for.

    It decodes nothing: what it writes to, every monitor that lives has a copy of.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.workshop = Workshop()
        self.expected = b""  # the packet of an Expect
        self.ready: _Ready | None = None

    def run(self) -> NoReturn:
        lessons = self.workshop.lessons
        while True:
            patience = QUIET if self.expected and self.ready is None else None
            readable = select.select((self.channel, lessons), (), (), patience)[0]
            if self.channel in readable:
                self._serve()
            elif lessons in readable:
                self.workshop.learn()
            else:
                self._keep_one_ready()

    def _serve(self) -> None:
        try:
            packet, riders = fds.recv_packet(self.channel, MAX_PACKET)
        except OSError:
            packet = b""
        if packet.startswith(_CREATE):
            if not self._hand_over(packet, riders):
                self._fork(lambda monitor: self.workshop.build(packet, riders, monitor), riders)
            fds.close_all(riders)
        elif packet.startswith(_EXPECT):
            self._let_go()
            self.expected = packet
        else:  # Quit, or the engine is gone
            self._let_go()
            os._exit(0)

    def _hand_over(self, packet: bytes, riders: list[int]) -> bool:
        """Give it to the one that waits for it; False when there is none."""
        if self.expected and _id(self.expected) == _id(packet):
            self.expected = b""
        ready = self.ready
        if ready is None or ready.id != _id(packet):
            return False
        self.ready = None
        with ready.wishes as wishes:
            try:
                fds.send_packet(wishes, packet, riders)
            except OSError:
                return False  # it has gone
        return True

    def _let_go(self) -> None:
        """The one that waits ends, and is gone when this returns."""
        if self.ready is not None:
            ready, self.ready = self.ready, None
            ready.wishes.close()
            with contextlib.suppress(ChildProcessError):  # nobody has to reap it
                os.waitpid(ready.pid, 0)

    def _keep_one_ready(self) -> None:
        ours, theirs = handshake.pair()
        expected = self.expected
        pid = self._fork(
            lambda monitor: self.workshop.wait(expected, theirs, monitor), (theirs.fileno(),), (ours,)
        )
        theirs.close()
        self.ready = _Ready(_id(expected), pid, ours)

    def _fork(
        self,
        build: Callable[[socket.socket], None],
        for_builder: Sequence[int],
        for_us: Sequence[socket.socket] = (),
    ) -> int:
        """A monitor, whose builder does `build` with its end of their pair: its pid.

        for_builder, for_us: descriptors that nobody else may keep.
        """
        pid = os.fork()
        if pid == 0:
            self.channel.close()
            for kept in for_us:
                kept.close()
            if self.ready is not None:
                self.ready.wishes.close()
            self.workshop.live(build, for_builder, rehearse=bool(for_us))
        return pid


class _Ready(NamedTuple):
    """A monitor that waits. wishes: its builder is sent its Create there, and leaves at its end."""

    id: bytes
    pid: int
    wishes: socket.socket


def _id(packet: bytes) -> bytes:
    """The field after the tag."""
    return packet.split(b",", 2)[1]
