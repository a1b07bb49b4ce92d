"""The drafter: a warm process that writes the programs by which monitors spawn their inits.

    zygote ──Create + control channel, a monitor's socket──► drafter ──Draft + descriptors, program──► monitor
                                                               └──the Create: an interpreter's work──►┘

It is forked once, and what it learned and touched stays its own; so a start costs no fork of an interpreter
that decodes, plans and lays out. It does nothing that could wait for long: what a container is made of is
opened by its init.
"""

import gc
import os
import socket
from typing import Final, NoReturn

from msgspec import DecodeError, Struct, json

from skiff.errors import SkiffError
from skiff.linux import capabilities, cgroups, fds, processes, syscalls
from skiff.linux.calls import Program
from skiff.oci.runtime import Linux
from skiff.runtime.isolation import becoming, config, create, rootfs
from skiff.runtime.isolation.create import Streams
from skiff.runtime.isolation.entering import Unplanned
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.monitor.control import SOCKET, listening
from skiff.runtime.monitor.streams import pipes
from skiff.runtime.protocol import MAX_PACKET, Create, decode_for_zygote

LONGEST: Final = 128 * 1024  # bytes of a program, which travels in one packet


class Draft(Struct, frozen=True, tag_field="t"):
    """What a monitor needs to make its container.

    group: its cgroup, with its limits. init: of the program that comes in the next packet. start, places: of
    its image. riders: the names of those that ride along: control (to the engine),
    listener (monitor.sock), oom (the group's event), group (its v2 directory), the streams of init (in, out,
    err) and their other ends (stdin, stdout, stderr).
    """

    wish: Create
    group: str
    init: becoming.Init
    start: int
    places: dict[str, tuple[int, ...]]
    riders: tuple[str, ...]


encode: Final = json.Encoder().encode
decode: Final = json.Decoder(Draft).decode


class Drafter:
    """base: where in a monitor the programs will lie."""

    def __init__(self, here: cgroups.Layout, reader: config.Reader, base: int) -> None:
        self.here = here
        self.reader = reader
        self.base = base
        self.numbers = syscalls.numbers(syscalls.architecture())
        _, self.have, _ = capabilities.get_sets()

    def run(self, orders: socket.socket) -> NoReturn:
        """Until the zygote is gone."""
        processes.set_own_name("skiff-drafter")
        gc.enable()
        while True:
            packet, riders = fds.recv_packet(orders, MAX_PACKET)
            if not packet:
                os._exit(0)
            control, monitor = riders
            with socket.socket(fileno=monitor) as to:
                try:
                    self._draft(packet, control, to)
                except OSError:
                    pass  # the monitor has been killed: the end of its channel tells the engine
                finally:
                    os.close(control)

    def _draft(self, packet: bytes, control: int, monitor: socket.socket) -> None:
        riders = {"control": control}
        try:
            draft, program = self._drafted(packet, riders)
        except (Unplanned, StepFailed, SkiffError, DecodeError):
            fds.send_packet(monitor, packet, [control])  # an interpreter does it, or says what is wrong
            return
        try:
            fds.send_packet(monitor, encode(draft), riders.values())
            monitor.send(program, socket.MSG_NOSIGNAL)
        except OSError:
            discard(cgroups.existing(self.here, draft.group), draft.wish)
            raise
        finally:
            fds.close_all(fd for name, fd in riders.items() if name != "control")

    def _drafted(self, packet: bytes, riders: dict[str, int]) -> tuple[Draft, bytes]:
        """Unplanned or StepFailed, and nothing is there then."""
        wish = decode_for_zygote(packet)
        if not isinstance(wish, Create) or wish.runtime or wish.init or wish.trace or wish.stdio.terminal:
            raise Unplanned("more than a program does")
        spec, filter = self.reader.spec(wish)
        linux = spec.linux or Linux()
        group = cgroups.existing(self.here, linux.cgroups_path or f"/skiff/{wish.id}")
        program = Program(self.numbers, self.base)
        init = becoming.become(
            program, spec, group, rootfs=wish.rootfs, at=wish.bundle, filter=filter, have=self.have
        )
        image = program.image()
        if len(image.data) > LONGEST:
            raise Unplanned("too long")
        create.make_group(self.here, group.path)
        try:
            create.limit(group, linux)
            theirs, ours = pipes(stdin=wish.stdio.stdin)
            riders.update(zip(("in", "out", "err"), theirs, strict=True))
            riders.update(
                (name, fd) for name, fd in zip(("stdin", "stdout", "stderr"), ours, strict=True) if fd >= 0
            )
            assert spec.process
            create.own_streams(Streams(stdin=theirs[0], stdout=theirs[1], stderr=theirs[2]), spec.process, ())
            self._equip(wish, group, riders)
        except BaseException:
            fds.close_all(fd for name, fd in riders.items() if name != "control")
            discard(group, wish)
            raise
        return Draft(wish, group.path, init, image.start, image.places, tuple(riders)), image.data

    def _equip(self, wish: Create, group: cgroups.Group, riders: dict[str, int]) -> None:
        with step_failed("monitor"):
            riders["listener"] = listening(wish.bundle).detach()
            if (oom := group.oom_event()) >= 0:
                riders["oom"] = oom
            if group.v2 is not None:
                riders["group"] = os.open(group.v2.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def discard(group: cgroups.Group, wish: Create) -> None:
    """Take away what was made for a container that is not."""
    group.destroy()
    rootfs.let_mount_again(wish.rootfs)
    try:
        os.unlink(f"{wish.bundle}/{SOCKET}")
    except FileNotFoundError:
        pass
