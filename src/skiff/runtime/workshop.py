"""What a process that the zygote forked does: a monitor that sleeps, the builder below it, their rehearsal.

    zygote ──fork──► monitor ──fork──► builder ──clone──► init
       ▲               ◄─────── Built ─────┘ │
       └───────── a seccomp profile it did not know ◄

The zygote is frozen and decodes nothing; all decoding is done here, in children.
"""

import os
import select
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from msgspec import DecodeError

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, processes, spawn
from skiff.oci.runtime import Linux
from skiff.runtime import builder
from skiff.runtime.isolation import ahead, config, create, handshake, root_plan
from skiff.runtime.isolation import cgroup as limits
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.monitor.loop import Monitor
from skiff.runtime.protocol import (
    MAX_PACKET,
    Create,
    Expect,
    Failed,
    Reply,
    Start,
    StepError,
    decode_for_monitor,
    decode_for_zygote,
    encode,
)

READY = "skiff-ready"  # the name of what waits


class Workshop:
    """Made in the zygote, used in its children. lessons: readable there when a child learned something."""

    def __init__(self) -> None:
        self.lessons, self._lessons = handshake.pair()
        self.here = cgroups.layout()
        self.reader = config.Reader(self._teach)
        self.spawner = spawn.available()

    def _teach(self, profile: bytes) -> None:
        """In a builder: the next one shall know this filter. One that is too long for a packet stays ours."""
        with suppress(OSError):
            self._lessons.send(profile, socket.MSG_DONTWAIT)

    def learn(self) -> None:
        """In the zygote: compile what a builder had to compile."""
        profile, _ = fds.recv_packet(self.lessons, config.MAX_PROFILE)
        with suppress(StepFailed):
            self.reader.learn(profile)

    # -- the monitor -------------------------------------------------------------------------------------

    def live(
        self, build: Callable[[socket.socket], None], for_builder: Sequence[int], *, rehearse: bool
    ) -> NoReturn:
        """Sleep until the builder, our child, has something for us; then watch over it.

        for_builder: descriptors that it alone keeps. rehearse: there is time.
        """
        code = 1
        try:
            self.lessons.close()
            processes.expect_children()
            os.setsid()
            ours, theirs = handshake.pair()
            if os.fork() == 0:
                ours.close()
                self._build(build, theirs)
            theirs.close()
            self._lessons.close()
            fds.close_all(for_builder)
            if rehearse:
                self._rehearse_watching()
            packet, riders = fds.recv_packet(ours, MAX_PACKET)
            ours.close()
            if packet:
                processes.set_own_name("skiff-monitor")
                built = builder.decode(packet)
                named = dict(zip(built.riders, riders, strict=True))
                Monitor(built, named, here=self.here, reader=self.reader, spawner=self.spawner).run()
            _reap_all()
            code = 0
        except (OSError, SkiffError, StepFailed) as error:
            print(f"skiff-monitor: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    # -- the builder -------------------------------------------------------------------------------------

    def _build(self, build: Callable[[socket.socket], None], monitor: socket.socket) -> NoReturn:
        try:
            build(monitor)
        except (OSError, SkiffError, StepFailed) as error:
            print(f"skiff-builder: {error}", file=sys.stderr, flush=True)  # the monitor goes with us
        finally:
            os._exit(0)

    def build(self, packet: bytes, riders: Sequence[int], monitor: socket.socket) -> None:
        """Make what this Create asks for."""
        self._make(builder.Builder(self.here, self.reader), packet, riders, monitor)

    def wait(self, packet: bytes, wishes: socket.socket, monitor: socket.socket) -> None:
        """Have the container of this Expect ready until its wish comes, or the zygote lets go of it."""
        processes.set_own_name(READY)
        expected = decode_for_zygote(packet)
        assert isinstance(expected, Expect)
        group = create.make_group(self.here, expected.cgroup)
        try:
            flags = processes.CLONE_PARENT
            waiting = ahead.clone(group, self.reader, warm=lambda: self._warm(expected, wishes), flags=flags)
        except BaseException:
            group.destroy()
            raise
        made = builder.Builder(self.here, self.reader, waiting)
        try:
            self._rehearse()
            if monitor in select.select((wishes, monitor), (), ())[0]:
                return  # it has been killed
            wish, riders = fds.recv_packet(wishes, MAX_PACKET)
            if wish:
                self._make(made, wish, riders, monitor)
        finally:
            made.dismiss()

    def _make(
        self, made: builder.Builder, packet: bytes, riders: Sequence[int], monitor: socket.socket
    ) -> None:
        try:
            wish = decode_for_zygote(packet)
        except DecodeError as error:
            _refuse(riders, str(error))
            return
        if isinstance(wish, Create) and len(riders) == 1:
            made.build(wish, riders[0], monitor)

    # -- rehearsals: a forked process copies each page of the heap when it first writes there ------------

    def _warm(self, expected: Expect, wishes: socket.socket) -> None:
        """In an init that waits: everything about the latest container that touches nothing."""
        wishes.close()
        processes.set_own_name(READY)
        if not expected.like:
            return
        try:
            spec, _ = self.reader.decode(config.read(expected.like))
        except StepFailed:
            return  # it has gone
        linux = spec.linux or Linux()
        if linux.resources:
            limits.plan(
                linux.resources, v1=self.here.v1, v2=self.here.v2_controllers if self.here.v2 else None
            )
        root_plan.plan(spec, self.here, "/", new_user=False, new_cgroup=True)
        decode_for_zygote(encode(Create(id="rehearsal", bundle="/proc/self")))

    def _rehearse_watching(self) -> None:
        """In a monitor that sleeps: a container that could not be built."""
        ours, theirs = handshake.pair()
        nothing = builder.Built(
            wish=Create(id="rehearsal", bundle="/proc/self"), error=StepError("create", text="rehearsal")
        )
        built = builder.decode(builder.encode(nothing))
        with ours:
            monitor = Monitor(built, {"control": theirs.detach()}, here=self.here, reader=self.reader)
            monitor.run()
            monitor.close()
        encode(Reply(seq=decode_for_monitor(encode(Start(seq=1))).seq))

    def _rehearse(self) -> None:
        """In a builder that waits: a container that cannot be, for want of a config.json."""
        ours, theirs = handshake.pair()
        with ours, theirs:
            self.build(encode(Create(id="rehearsal", bundle="/proc/self")), (theirs.fileno(),), theirs)
            _, riders = fds.recv_packet(ours, MAX_PACKET)
            fds.close_all(riders)


def _reap_all() -> None:
    """Children that ended, or are ending now, while nobody watched."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _refuse(riders: Sequence[int], text: str) -> None:
    """Tell the engine that its request cannot be read."""
    for fd in riders:
        with socket.socket(fileno=fd) as control, suppress(OSError):  # it gave up on it
            failed = Failed(error=StepError("create", 22, text))
            control.send(encode(failed), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
