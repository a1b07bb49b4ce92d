"""What a monitor does before it watches: it sleeps, spawns an init by a draft or has one built by a fork.

zygote ──fork──► monitor ◄──Draft, program── drafter          spawn ──► init, waits at its gate
                    ◄──a Create── drafter, or zygote          fork ──► builder ──clone──► init
                    └───────── a seccomp profile it did not know ──► zygote
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from msgspec import DecodeError, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, processes, spawn, syscalls
from skiff.linux.spawn import Spawner
from skiff.runtime import builder, drafter
from skiff.runtime.builder import Built
from skiff.runtime.drafter import Draft
from skiff.runtime.isolation import config, create, handshake, rootfs
from skiff.runtime.isolation.create import Container, Streams
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.monitor.loop import Monitor
from skiff.runtime.protocol import (
    MAX_PACKET,
    Create,
    Failed,
    Reply,
    Start,
    StepError,
    decode_for_monitor,
    decode_for_zygote,
    encode,
)

READY: Final = "skiff-ready"  # the name of a monitor that sleeps
_DRAFT: Final = b'{"t":"Draft",'
_GO_ON: Final = syscalls.number("getpid") if syscalls.architecture() in syscalls.ARCHITECTURES else -1


class Workshop:
    """Made in the zygote, used in its children. lessons: readable there when a child learned something."""

    def __init__(self) -> None:
        self.lessons, self._lessons = handshake.pair()
        self.here = cgroups.layout()
        self.reader = config.Reader(self._teach)
        self.spawner = spawn.available()

    def _teach(self, profile: bytes) -> None:
        """In a child: the next one shall know this filter. One that is too long for a packet stays ours."""
        with suppress(OSError):
            self._lessons.send(profile, socket.MSG_DONTWAIT)

    def learn(self) -> None:
        """In the zygote: compile what a child had to compile."""
        profile, _ = fds.recv_packet(self.lessons, config.MAX_PROFILE)
        with suppress(StepFailed):
            self.reader.learn(profile)

    def draft(self, orders: socket.socket) -> NoReturn:
        """In the drafter."""
        assert self.spawner is not None
        self.lessons.close()
        drafter.Drafter(self.here, self.reader, self.spawner.base).run(orders)

    # -- the monitor -------------------------------------------------------------------------------------

    def live(self, wishes: socket.socket, *, rehearse: bool) -> NoReturn:
        """Sleep until there is something to make; then watch over it. rehearse: there is time."""
        code = 1
        try:
            self.lessons.close()
            processes.expect_children()
            os.setsid()
            if rehearse:
                self._rehearse()
            packet, riders = fds.recv_packet(wishes, MAX_PACKET)
            if packet:
                processes.set_own_name("skiff-monitor")
                self._make(packet, riders, wishes).run()
            code = 0
        except (OSError, SkiffError, StepFailed) as error:
            print(f"skiff-monitor: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def _make(self, packet: bytes, riders: list[int], wishes: socket.socket) -> Monitor:
        if not packet.startswith(_DRAFT):
            wishes.close()
            return self._watch(*self._built(packet, riders))
        draft = drafter.decode(packet)
        named = dict(zip(draft.riders, riders, strict=True))
        assert self.spawner is not None
        image = self.spawner.room[: wishes.recv_into(self.spawner.room)]
        wishes.close()
        attempt = Attempt(self, self.spawner, draft, named)
        built = attempt.made(image)
        if built is None:
            return self._watch(*self._built(encode(draft.wish), [named["control"]]))
        return self._watch(built, named, attempt)

    def _watch(self, built: Built, riders: dict[str, int], attempt: "Attempt | None" = None) -> Monitor:
        return Monitor(
            built,
            riders,
            here=self.here,
            reader=self.reader,
            spawner=self.spawner,
            starter=attempt.start if attempt else create.start,
        )

    def _built(self, packet: bytes, riders: Sequence[int]) -> tuple[Built, dict[str, int]]:
        """By a builder, which keeps the descriptors. StepFailed when it leaves nothing."""
        try:
            wish = decode_for_zygote(packet)
        except DecodeError as error:
            _refuse(riders, str(error))
            raise StepFailed("create", text=str(error)) from error
        assert isinstance(wish, Create)
        control = riders[0]
        return self.forked(lambda made, monitor: made.build(wish, control, monitor), (control,))

    def forked(
        self, build: Callable[[builder.Builder, socket.socket], None], kept: Sequence[int]
    ) -> tuple[Built, dict[str, int]]:
        """What a builder says after `build`. kept: descriptors that it alone keeps."""
        ours, theirs = handshake.pair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            try:
                build(builder.Builder(self.here, self.reader), theirs)
            except (OSError, SkiffError, StepFailed) as error:
                print(f"skiff-builder: {error}", file=sys.stderr, flush=True)  # the monitor goes with us
            finally:
                os._exit(0)
        theirs.close()
        fds.close_all(kept)
        with ours:
            packet, riders = fds.recv_packet(ours, MAX_PACKET)
        processes.reap(pid)
        if not packet:
            raise StepFailed("create", text="the builder has ended")
        built = builder.decode(packet)
        return built, dict(zip(built.riders, riders, strict=True))

    def _rehearse(self) -> None:
        """In a monitor that sleeps: a container that could not be built.

        A forked process copies each page of the heap when it first writes there; now nobody waits for it.
        """
        processes.set_own_name(READY)
        ours, theirs = handshake.pair()
        nothing = Built(
            wish=Create(id="rehearsal", bundle="/proc/self"), error=StepError("create", text="rehearsal")
        )
        built = builder.decode(builder.encode(nothing))
        with ours:
            monitor = self._watch(built, {"control": theirs.detach()})
            monitor.run()
            monitor.close()
        encode(Reply(seq=decode_for_monitor(encode(Start(seq=1))).seq))


class Attempt:
    """A container that is spawned; what does not succeed is done again by a builder.

    riders: the draft's. Of those the streams of init stay open until it has started.
    """

    def __init__(self, workshop: Workshop, spawner: Spawner, draft: Draft, riders: dict[str, int]) -> None:
        self.workshop = workshop
        self.spawner = spawner
        self.draft = draft
        self.riders = riders
        self.streams = Streams(stdin=riders.pop("in"), stdout=riders.pop("out"), stderr=riders.pop("err"))

    def made(self, image: memoryview) -> Built | None:
        """Init waits at its gate; or None, and all is gone but the control channel."""
        draft, riders = self.draft, self.riders
        ours, theirs = handshake.pair()
        numbers = dict(zip(("in", "out", "err"), structs.astuple(self.streams)[:3], strict=True))
        numbers |= {"ours": ours.fileno(), "sync": theirs.fileno()}
        group = riders.pop("group", -1)
        try:
            init = self.spawner.spawn(
                image, draft.start, draft.places, draft.init.cloned, riders=numbers, cgroup=group, wait=False
            )
        except OSError:
            init = None
        finally:
            theirs.close()
            fds.close_all((group,))
        letter, body, _ = handshake.hear(ours) if init else (b"", b"", [])
        if init is not None and letter == handshake.READY:
            riders |= {"pidfd": init.pidfd, "sync": ours.detach()}
            return Built(
                wish=draft.wish,
                pid=init.pid,
                namespaces=int(body),
                owns_pids=True,
                group=draft.group,
                riders=tuple(riders),
            )
        ours.close()
        if init is not None:
            processes.reap(init.pid)
            os.close(init.pidfd)
        fds.close_all(structs.astuple(self.streams)[:3])
        fds.close_all(fd for name, fd in riders.items() if name != "control")
        drafter.discard(cgroups.existing(self.workshop.here, draft.group), draft.wish)
        return None

    def start(self, container: Container) -> None:
        """As create.start; the container is another one after a failure that was none."""
        self.spawner.replace(self.draft.init.gate, _GO_ON)
        create.start(container)
        if not self.spawner.executes(self.draft.init.execves):
            self._start_another(container)
        self.spawner.forget()
        fds.close_all(structs.astuple(self.streams)[:3])

    def _start_another(self, container: Container) -> None:
        """A fork finds the words for what was wrong, or that it is not (a file of an unknown format)."""
        rootfs.let_mount_again(self.draft.wish.rootfs)
        built, riders = self.workshop.forked(
            lambda made, monitor: made.build_again(self.draft.wish, self.streams, monitor), ()
        )
        if built.error is not None:
            raise StepFailed(*structs.astuple(built.error))
        processes.reap(container.pid)
        os.close(container.pidfd)
        container.pid, container.pidfd = built.pid, riders["pidfd"]
        container.sync = socket.socket(fileno=riders["sync"])
        create.start(container)


def _refuse(riders: Sequence[int], text: str) -> None:
    """Tell the engine that its request cannot be read."""
    for fd in riders:
        with socket.socket(fileno=fd) as control, suppress(OSError):  # it gave up on it
            failed = Failed(error=StepError("create", 22, text))
            control.send(encode(failed), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
