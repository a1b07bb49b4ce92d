"""The monitor: one process per container. It owns its streams, log and exit code, and outlives the engine.

    Built ─► Created ─► Start ─► … requests … ─► init exits: reap, drain, status.json, Exited
      └─► Failed, end                              ─► cgroups removed ─► Delete ─► end

Without an engine it leaves by itself after the exit: status.json has the rest.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import DecodeError, json, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, processes, terminals, watching
from skiff.linux.frozen import Frozen
from skiff.linux.spawn import Spawner
from skiff.oci.runtime import Process
from skiff.runtime import protocol
from skiff.runtime.builder import Built
from skiff.runtime.isolation import config, create
from skiff.runtime.isolation.handshake import InitEnded, StepFailed, reason
from skiff.runtime.monitor import status as status_file
from skiff.runtime.monitor.control import SOCKET, Control, listening
from skiff.runtime.monitor.driver import Driver, Native
from skiff.runtime.monitor.execs import Execs
from skiff.runtime.monitor.foreign import Foreign
from skiff.runtime.monitor.logs import LogWriter, open_log
from skiff.runtime.monitor.poller import READ, Poller
from skiff.runtime.monitor.streams import Streams, channels, connect
from skiff.runtime.monitor.thrifty import Thrifty
from skiff.runtime.protocol import Exited, Reply, Status, StepError

LINGER: Final = 30.0  # seconds
_decode_process: Final = json.Decoder(Process).decode


class Monitor:
    """State of one container. `run` returns when there is nothing left to do.

    built, riders: what the builder left; see builder.py. reader: knows the filters of other containers.
    spawner: for processes that join, where there is one. starter: lets init go, as create.start.
    """

    def __init__(
        self,
        built: Built,
        riders: Mapping[str, int],
        *,
        here: cgroups.Layout,
        reader: config.Reader,
        spawner: Spawner | None = None,
        frozen: Frozen | None = None,
        starter: Callable[[create.Container], None] = create.start,
    ) -> None:
        self.built = built
        self.riders = riders
        self.wish = built.wish
        self.here = here
        self.reader = reader
        self.spawner = spawner
        self.starter = starter
        self.poller = Poller() if frozen is None else Thrifty(frozen.give_back)
        self.control = Control(
            self.poller, on_packet=self._on_packet, on_connect=self._on_connect, on_lost=self._on_lost
        )
        self.control.take(socket.socket(fileno=riders["control"]))
        self.bundle = os.open(self.wish.bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.streams: Streams
        self.container: create.Container
        self.driver: Driver
        self.execs = Execs(self.poller, self.bundle, self.control.say)
        self.oom: cgroups.OomWatch | None = None
        self.oom_killed = False
        self.started = 0
        self.paused = False
        self.exited: Exited | None = None
        self.cleaned = False
        self.leaving = False
        self.left = -1
        self.deadline = 0.0

    # -- life --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From what was built to the end."""
        watching.to_file(self.bundle, self.wish.trace)
        try:
            self._begin()
        except StepFailed as failure:
            self._remove(SOCKET)
            self.control.say(protocol.Failed(error=failure.error))
            return
        self.control.say(protocol.Created(pid=self.container.pid, monitor_pid=os.getpid()))
        self._watch_oom()
        while not self._done():
            self.poller.run_once(self._patience())
            if self.exited and not self.cleaned:
                self._clean()
        self._remove(SOCKET)

    def close(self) -> None:
        """Let go of the engine and of the bundle, whose descriptors are ours."""
        self.control.close()
        os.close(self.bundle)

    def _begin(self) -> None:
        """Take over what was built, or have it made by another runtime; from then on it is watched."""
        if self.built.error is not None:
            raise StepFailed(*structs.astuple(self.built.error))
        stdio = self.wish.stdio
        self.driver, ours = self._foreign() if self.wish.runtime else self._native()
        self.container = self.driver.container
        try:
            self.streams = Streams(
                self.poller, _opened(stdio.log), terminal=stdio.terminal, stdin_once=stdio.stdin_once
            )
            listener = self.riders.get("listener", -1)
            self.control.listen(
                listening(self.wish.bundle) if listener < 0 else socket.socket(fileno=listener)
            )
        except BaseException:
            self.driver.abandon()
            self.driver.clean()
            raise
        connect(self.streams, ours, self.container.master, stdio)
        self.poller.watch(self.container.pidfd, READ, self._on_exit)

    def _native(self) -> tuple[Driver, Sequence[int]]:
        built, riders = self.built, self.riders
        container = create.Container(
            pid=built.pid,
            pidfd=riders["pidfd"],
            sync=socket.socket(fileno=riders["sync"]),
            group=cgroups.existing(self.here, built.group),
            master=riders.get("master", -1),
            namespaces=built.namespaces,
            owns_pids=built.owns_pids,
        )
        ours = [riders.get(name, -1) for name in ("stdin", "stdout", "stderr")]
        driver = Native(
            self.wish,
            container,
            self.reader,
            has_hooks=built.has_hooks,
            spawner=self.spawner,
            starter=self.starter,
        )
        return driver, ours

    def _foreign(self) -> tuple[Driver, Sequence[int]]:
        spec, _ = self.reader.spec(self.wish)
        foreign = Foreign(self.wish, spec, here=self.here)
        # What the program leaves behind becomes ours to reap, whenever it ends.
        heard, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.poller.watch(heard, READ, lambda events: self._reap_strays(heard, foreign))
        theirs, ours = channels(self.wish.stdio)
        try:
            foreign.create(create.Streams.of(theirs))
        except BaseException:
            fds.close_all(ours)
            raise
        finally:
            fds.close_all(theirs)
        return foreign, ours

    def _reap_strays(self, heard: int, foreign: Foreign) -> None:
        os.read(heard, 4096)
        foreign.reap_strays((self.container.pid, *self.execs.pids()))

    def _watch_oom(self) -> None:
        group = self.container.group
        if "oom" in self.riders:
            self.oom = cgroups.OomWatch(group, self.riders["oom"])
        elif (event := group.oom_event()) >= 0:
            self.oom = cgroups.OomWatch(group, event, seen=group.oom_kills())
        if self.oom is not None:
            self.poller.watch(self.oom.fileno(), READ, self._on_oom)

    def _on_oom(self, events: int) -> None:
        if self.oom is None or not self.oom.happened():
            return
        self.oom_killed = True
        self.control.say(protocol.Oom())

    def _on_exit(self, events: int) -> None:
        self.poller.forget(self.container.pidfd)
        wait_status = processes.reap(self.container.pid)
        finished = time.time_ns()
        self._end(*processes.exit_code(wait_status), finished)

    def _end(self, code: int, signal: int, finished: int) -> None:
        """Init is gone: everything it wrote to its places, then the news. What takes time comes later."""
        self.container.pidfd, pidfd = -1, self.container.pidfd
        os.close(pidfd)
        if not self.container.owns_pids:
            self.container.group.signal_all(9)
        self.streams.drain()
        self._on_oom(0)
        self.exited = Exited(
            code=code, signal=signal, oom_killed=self.oom_killed, started=self.started, finished=finished
        )
        status_file.write(self.bundle, self._status())
        self.control.say(self.exited)
        self.streams.finish()

    def _clean(self) -> None:
        self.cleaned = True
        if self.oom is not None:
            self.poller.forget(self.oom.fileno())
            self.oom.close()
            self.oom = None
        self.execs.end_all()
        self.driver.clean()

    def _patience(self) -> int | None:
        """How long to wait (ms). After Delete a client that takes nothing any more is let go in the end."""
        if not self.leaving or not self.cleaned:
            return None
        left = sum(client.queued for client in self.streams.clients)
        now = time.monotonic()
        if left != self.left:
            self.left, self.deadline = left, now + LINGER
        if now >= self.deadline:
            for client in tuple(self.streams.clients):
                self.streams.drop(client)
        return max(int((self.deadline - now) * 1000), 0) + 1

    def _done(self) -> bool:
        """Left are clients that have not got everything, and an engine that has not said Delete."""
        if not self.cleaned or self.streams.clients:
            return False
        return self.leaving or self.control.channel is None

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self.bundle)
        except FileNotFoundError:
            pass

    def _status(self) -> Status:
        return Status(
            id=self.wish.id,
            pid=self.container.pid,
            monitor_pid=os.getpid(),
            started=self.started,
            running=self.exited is None,
            paused=self.paused,
            exited=self.exited,
            execs=self.execs.ids(),
        )

    # -- requests ----------------------------------------------------------------------------------------

    def _on_connect(self) -> None:
        self.leaving = False
        self.control.say(self._status())

    def _on_lost(self) -> None:
        """Nothing: the container goes on, and monitor.sock waits for the next engine."""

    def _on_packet(self, packet: bytes, riders: Sequence[int]) -> None:
        left = list(riders)
        try:
            request = protocol.decode_for_monitor(packet)
        except DecodeError as error:
            fds.close_all(left)
            self.control.say(Reply(seq=0, error=StepError("request", 22, str(error))))
            return
        reply = Reply(seq=request.seq)
        watching.to_file(self.bundle, request.trace)
        try:
            reply = self._answer(request, left)
        except StepFailed as failure:
            reply = Reply(seq=request.seq, error=failure.error)
        except OSError as error:
            reply = Reply(
                seq=request.seq,
                error=StepError(type(request).__name__.lower(), error.errno or 0, reason(error)),
            )
        except SkiffError as error:
            reply = Reply(seq=request.seq, error=StepError(type(request).__name__.lower(), 22, str(error)))
        finally:
            fds.close_all(left)
        if self.started or self.exited:
            watching.end_file()
        self.control.say(reply)

    def _answer(self, request: protocol.ToMonitor, riders: list[int]) -> Reply:
        """Do it. Descriptors that are taken are removed from the list."""
        pids: tuple[int, ...] = ()
        pid = time_now = 0
        match request:
            case protocol.Start():
                self._start()
                pid = self.container.pid
            case protocol.Signal():
                self._signal(request)
            case protocol.Freeze():
                self._alive("freeze")
                self.driver.freeze()
                self.paused = True
            case protocol.Thaw():
                self._alive("thaw")
                self.driver.thaw()
                self.paused = False
            case protocol.Resize():
                fd = self._streams_of(request.exec_id).resize_fd()
                terminals.set_window_size(fd, request.rows, request.columns)
            case protocol.Attach():
                self._attach(request, riders)
                time_now = time.time_ns()
            case protocol.Exec():
                self._alive("exec")
                if self.paused or not self.started:  # who joins a frozen group is frozen before we let go
                    state = "paused" if self.paused else "not running"
                    raise StepFailed("exec", 3, f"the container is {state}")
                pid = self.execs.begin(request, riders, self.driver)
            case protocol.CloseStdin():
                self.streams.close_stdin()
            case protocol.Update():
                self._alive("update")
                self.driver.update(request.resources)
            case protocol.Processes():
                self._alive("processes")
                pids = self.driver.pids()
            case protocol.Delete():
                self._delete(request)
        return Reply(seq=request.seq, pid=pid, pids=pids, time=time_now)

    def _alive(self, step: str) -> None:
        if self.exited is not None:
            raise StepFailed(step, 3, "the container has exited")

    def _start(self) -> None:
        if self.exited is not None:
            raise InitEnded()
        self.poller.forget(self.container.pidfd)
        try:
            self.driver.start()
        except InitEnded:
            self._on_exit(0)
            raise
        except StepFailed as failure:
            if failure.error.step.startswith("hook poststart"):
                self._started()  # it runs; the hook's failure is only told
                raise
            self.driver.abandon()
            missing = failure.error.step == "exec" and failure.error.errno == 2
            self._end(127 if missing else 126, 0, time.time_ns())
            raise
        self._started()

    def _started(self) -> None:
        self.started = time.time_ns()
        self.poller.watch(self.container.pidfd, READ, self._on_exit)

    def _signal(self, request: protocol.Signal) -> None:
        self._alive("signal")
        if request.exec_id:
            processes.pidfd_signal(self.execs.running(request.exec_id).joined.pidfd, request.number)
        else:
            self.driver.signal(request.number, everyone=request.everyone)

    def _streams_of(self, exec_id: str) -> Streams:
        if exec_id:
            return self.execs.running(exec_id).streams
        self._alive("streams")
        return self.streams

    def _attach(self, request: protocol.Attach, riders: list[int]) -> None:
        if len(riders) not in (1, 2):
            raise StepFailed("attach", 22, "expected a socket, and perhaps a gate")
        streams = self._streams_of(request.exec_id)
        gate = riders.pop() if len(riders) == 2 else -1
        streams.attach(socket.socket(fileno=riders.pop()), request, gate)

    def _delete(self, request: protocol.Delete) -> None:
        if self.exited is None:
            if not request.force and self.started:
                raise StepFailed("delete", 16, "the container is running")
            if self.paused:
                self.driver.thaw()
            processes.pidfd_signal(self.container.pidfd, 9)
            # Init ends only after everything in its pid namespace is reaped, and those are our children.
            self.execs.end_all()
            self._on_exit(0)
        if not self.cleaned:
            self._clean()
        self.leaving = True
        self._remove(SOCKET)
        self._remove(status_file.NAME)
        self.driver.deleted()


def _opened(config: protocol.LogConfig | None) -> LogWriter:
    try:
        return open_log(config)
    except OSError as error:
        raise StepFailed("open log", error.errno or 0, reason(error)) from error
    except ValueError as error:
        raise StepFailed("open log", text=str(error)) from error
