"""The further processes of a container: each was joined to it, has streams of its own, and ends by itself or
with init.
"""

import os
import socket
from collections.abc import Callable
from typing import Final

from msgspec import json
from msgspec.structs import replace

from skiff.linux import fds, processes
from skiff.oci.runtime import Process
from skiff.runtime.isolation import create, join
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.monitor.driver import Driver
from skiff.runtime.monitor.logs import NoLog
from skiff.runtime.monitor.poller import READ, Poller
from skiff.runtime.monitor.streams import Streams, channels, connect
from skiff.runtime.protocol import Exec, ExecExited, Message

_decode_process: Final = json.Decoder(Process).decode


class Running:
    """A process that was joined to the container, with its streams."""

    __slots__ = ("joined", "streams")

    def __init__(self, joined: join.Joined, streams: Streams) -> None:
        self.joined = joined
        self.streams = streams


class Execs:
    """Those that run, by id. bundle: a descriptor of the directory. say: tells the engine of an end."""

    def __init__(self, poller: Poller, bundle: int, say: Callable[[Message], None]) -> None:
        self.poller = poller
        self.bundle = bundle
        self.say = say
        self._running: dict[str, Running] = {}

    def ids(self) -> tuple[str, ...]:
        return tuple(self._running)

    def pids(self) -> tuple[int, ...]:
        return tuple(running.joined.pid for running in self._running.values())

    def running(self, id: str) -> Running:
        """StepFailed when there is none."""
        if id not in self._running:
            raise StepFailed("exec", 3, f"no such running process: {id}")
        return self._running[id]

    def begin(self, request: Exec, riders: list[int], driver: Driver) -> int:
        """Its pid. Descriptors that are taken are removed from the list. StepFailed, OSError."""
        id = request.exec_id
        if id in self._running:
            raise StepFailed("exec", 17, f"there is a process {id} already")
        process = self._process_of(request)
        stdio = request.stdio
        streams = Streams(self.poller, NoLog(), terminal=stdio.terminal, stdin_once=stdio.stdin_once)
        theirs, ours = channels(stdio)
        try:
            joined = driver.exec(process, create.Streams.of(theirs))
        except BaseException:
            fds.close_all(ours)
            raise
        finally:
            fds.close_all(theirs)
        if request.attach is not None and riders:
            streams.attach(socket.socket(fileno=riders.pop()), request.attach)
        self._running[id] = Running(joined, streams)
        connect(streams, ours, joined.master, stdio)
        self.poller.watch(joined.pidfd, READ, lambda events: self._end(id))
        return joined.pid

    def _process_of(self, request: Exec) -> Process:
        process = request.process
        if request.process_file:
            name = os.path.basename(request.process_file)
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.bundle)
            with open(fd, "rb") as file:
                process = _decode_process(file.read())
            os.unlink(name, dir_fd=self.bundle)
        if process is None:
            raise StepFailed("exec", 22, "no process given")
        if process.terminal != request.stdio.terminal:
            raise StepFailed("exec", 22, "process.terminal differs from what the engine asked for")
        # The program may ask for its terminal's size at once: it has to be there before execve.
        return replace(process, console_size=request.stdio.size or process.console_size)

    def end_all(self) -> None:
        """Kill them, and wait."""
        for id, running in tuple(self._running.items()):
            try:
                processes.pidfd_signal(running.joined.pidfd, 9)
            except ProcessLookupError:
                pass
            self._end(id)

    def _end(self, id: str) -> None:
        running = self._running.pop(id)
        joined = running.joined
        self.poller.forget(joined.pidfd)
        code, _ = processes.exit_code(processes.reap(joined.pid))
        os.close(joined.pidfd)
        running.streams.drain()
        # Before the client sees the end of its stream: it asks for the code right after.
        self.say(ExecExited(exec_id=id, code=code))
        running.streams.finish()
