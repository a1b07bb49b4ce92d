"""What a monitor does before it watches: it sleeps, spawns an init by a draft or has one built by a fork.

    zygote ──fork──► monitor ◄──Draft, program── drafter          spawn ──► init, waits at its gate
                        ◄──a Create── drafter, or zygote          fork ──► builder ──clone──► init
                        └───────── a seccomp profile it did not know ──► zygote

Before the zygote is frozen it rehearses all of this.
"""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from msgspec import DecodeError, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, frozen, processes, spawn, syscalls
from skiff.linux.frozen import Frozen
from skiff.linux.spawn import Spawner
from skiff.runtime import builder, drafter
from skiff.runtime.builder import Built
from skiff.runtime.drafter import Draft
from skiff.runtime.isolation import becoming, config, create, handshake, rootfs
from skiff.runtime.isolation.create import Container, Streams
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.monitor.loop import Monitor
from skiff.runtime.monitor.streams import pipes
from skiff.runtime.protocol import (
    MAX_PACKET,
    Attach,
    Create,
    Delete,
    Failed,
    LogConfig,
    Start,
    Stdio,
    StepError,
    decode_for_zygote,
    encode,
)

READY: Final = "skiff-ready"  # the name of a monitor that sleeps
_DRAFT: Final = b'{"t":"Draft",'
_LINE: Final = b"rehearsed\n"
_GO_ON: Final = syscalls.number("getpid") if syscalls.architecture() in syscalls.ARCHITECTURES else -1


class Workshop:
    """Made in the zygote, used in its children. lessons: readable there when a child learned something."""

    def __init__(self) -> None:
        self.lessons, self._lessons = handshake.pair()
        self.here = cgroups.layout()
        self.reader = config.Reader(self._teach)
        self.spawner = spawn.available()
        self.frozen: Frozen | None = None

    def freeze(self) -> None:
        """In the zygote, before its first fork: what it holds is what its children go back to. OSError."""
        if self.spawner is not None:
            self.frozen = frozen.freeze(self.spawner)

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
        drafter.Drafter(self.here, self.reader, self.spawner).run(orders)

    # -- the monitor -------------------------------------------------------------------------------------

    def live(self, wishes: socket.socket, *, ahead: bool) -> NoReturn:
        """Sleep until there is something to make; then watch over it. ahead: it will be long."""
        code = 1
        try:
            self.lessons.close()
            processes.expect_children()
            os.setsid()
            if ahead:
                processes.set_own_name(READY)
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
            return self._watch(*self._built(_wish(packet, riders), riders[0]))
        draft = drafter.decode(packet)
        named = dict(zip(draft.riders, riders, strict=True))
        assert self.spawner is not None
        image = self.spawner.room[: wishes.recv_into(self.spawner.room)]
        wishes.close()
        attempt = Attempt(self, self.spawner, draft, named)
        built = attempt.made(image)
        if built is None:
            return self._watch(*self._built(draft.wish, named["control"]))
        return self._watch(built, named, attempt)

    def _watch(self, built: Built, riders: dict[str, int], attempt: "Attempt | None" = None) -> Monitor:
        return Monitor(
            built,
            riders,
            here=self.here,
            reader=self.reader,
            spawner=self.spawner,
            frozen=self.frozen,
            starter=attempt.start if attempt else create.start,
        )

    def _built(self, wish: Create, control: int) -> tuple[Built, dict[str, int]]:
        """By a builder, which keeps the channel. StepFailed when it leaves nothing."""
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

    def rehearse(self) -> None:
        """The whole life of a container that does nothing, by what would make and watch a real one.

        In the zygote, a few times: then the interpreter has adapted its code, and no child of it writes there
        again (PEP 659). OSError, StepFailed.
        """
        if self.spawner is None:
            return
        bundle = f"/tmp/skiff-rehearsal-{os.getpid()}"
        os.mkdir(bundle, 0o700)
        engine, control = handshake.pair()
        client, stream = socket.socketpair()
        try:
            draft, image = rehearsal(self.spawner, bundle)
            self.spawner.room[: len(image)] = image
            theirs, ours = pipes(stdin=True)
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            riders = dict(zip(draft.riders, [control.detach(), event, *theirs, *ours], strict=True))
            draft = drafter.decode(drafter.encode(draft))
            attempt = Attempt(self, self.spawner, draft, riders)
            built = attempt.made(self.spawner.room[: len(image)])
            if built is not None:
                fds.send_packet(engine, encode(Attach(seq=1, stdout=True, stderr=True)), [stream.fileno()])
                engine.send(encode(Start(seq=2)))
                engine.send(encode(Delete(seq=3, force=True)))
                stream.close()
                monitor = self._watch(built, riders, attempt)
                monitor.run()
                monitor.close()
        finally:
            for ended in (engine, client, stream):
                ended.close()
            shutil.rmtree(bundle)


def rehearsal(spawner: Spawner, bundle: str) -> tuple[Draft, bytes]:
    """A container whose init says a line, waits at its gate, and ends."""
    program = spawner.program()
    program.call("close", becoming.OURS)
    program.call("write", becoming.STREAMS[1], _LINE, len(_LINE))
    ready = handshake.READY + b"0"
    program.call("sendto", becoming.SYNC, ready, len(ready), socket.MSG_NOSIGNAL, None, 0)
    program.call("recvfrom", becoming.SYNC, bytes(8), 1, 0, None, None)
    gate = program.call("exit_group", 1)
    # In place of an execve: like one it lets go of our memory before it closes what we wait at.
    end = program.call("exit_group", 0)
    image = program.image()
    draft = Draft(
        Create(id="rehearsal", bundle=bundle, stdio=Stdio(log=LogConfig(path=f"{bundle}/log"))),
        "/skiff-rehearsal",
        becoming.Init(0, 0, gate, (end,)),
        image.start,
        image.places,
        ("control", "oom", *drafter.THEIR_ENDS, *builder.STREAMS),
    )
    return draft, image.data


class Attempt:
    """A container that is spawned; what does not succeed is done again by a builder.

    riders: the draft's. Of those the streams of init stay open until it has started.
    """

    def __init__(self, workshop: Workshop, spawner: Spawner, draft: Draft, riders: dict[str, int]) -> None:
        self.workshop = workshop
        self.spawner = spawner
        self.draft = draft
        self.riders = riders
        self.streams = Streams.of([riders.pop(name) for name in drafter.THEIR_ENDS])

    def made(self, image: memoryview) -> Built | None:
        """Init waits at its gate; or None, and all is gone but the control channel."""
        draft, riders = self.draft, self.riders
        ours, theirs = handshake.pair()
        numbers = dict(zip(drafter.THEIR_ENDS, self.streams.numbers, strict=True))
        numbers |= {becoming.OURS.name: ours.fileno(), becoming.SYNC.name: theirs.fileno()}
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
        letter, _, _ = handshake.hear(ours) if init else (b"", b"", [])
        if init is not None and letter == handshake.READY:
            riders |= {"pidfd": init.pidfd, "sync": ours.detach()}
            return Built(
                wish=draft.wish,
                pid=init.pid,
                namespaces=draft.init.apart,
                owns_pids=True,
                group=draft.group,
                riders=tuple(riders),
            )
        ours.close()
        if init is not None:
            processes.reap(init.pid)
            os.close(init.pidfd)
        fds.close_all(self.streams.numbers)
        fds.close_all(fd for name, fd in riders.items() if name != "control")
        drafter.discard(cgroups.existing(self.workshop.here, draft.group), draft.wish)
        return None

    def start(self, container: Container) -> None:
        """As create.start; the container is another one after a failure that was none."""
        self.spawner.replace(self.draft.init.gate, _GO_ON)
        create.start(container)
        if not self.spawner.executes(self.draft.init.execves) and not processes.was_killed(container.pidfd):
            self._start_another(container)
        self.spawner.forget()
        fds.close_all(self.streams.numbers)

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


def _wish(packet: bytes, riders: Sequence[int]) -> Create:
    """StepFailed, and the engine has been told."""
    try:
        wish = decode_for_zygote(packet)
    except DecodeError as error:
        _refuse(riders, str(error))
        raise StepFailed("create", text=str(error)) from error
    assert isinstance(wish, Create)
    return wish


def _refuse(riders: Sequence[int], text: str) -> None:
    """Tell the engine that its request cannot be read."""
    for fd in riders:
        with socket.socket(fileno=fd) as control, suppress(OSError):  # it gave up on it
            failed = Failed(error=StepError("create", 22, text))
            control.send(encode(failed), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
