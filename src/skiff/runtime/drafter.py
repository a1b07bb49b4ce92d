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
from typing import Final, NamedTuple, NoReturn

from msgspec import DecodeError, Struct, json

from skiff.errors import SkiffError
from skiff.linux import capabilities, cgroups, fds, processes
from skiff.linux.calls import Image
from skiff.linux.spawn import Spawner
from skiff.oci.runtime import Linux, Spec
from skiff.runtime.builder import equipment, our_ends
from skiff.runtime.isolation import becoming, config, create, rootfs
from skiff.runtime.isolation.create import Streams
from skiff.runtime.isolation.entering import Unplanned
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.likeness import Likenesses
from skiff.runtime.monitor.control import SOCKET
from skiff.runtime.monitor.streams import pipes
from skiff.runtime.protocol import MAX_PACKET, Create, decode_for_zygote

THEIR_ENDS: Final = tuple(rider.name for rider in becoming.STREAMS)
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


class Plan(NamedTuple):
    """What a program was made from: the container's id, its spec without seccomp; and how to follow it."""

    id: str
    spec: Spec
    init: becoming.Init


encode: Final = json.Encoder().encode
decode: Final = json.Decoder(Draft).decode


class Drafter:
    """spawner: of the zygote, so that its programs lie in the memory of each monitor."""

    def __init__(self, here: cgroups.Layout, reader: config.Reader, spawner: Spawner) -> None:
        self.here = here
        self.reader = reader
        self.spawner = spawner
        self.likenesses: Likenesses[Plan] = Likenesses()
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
        try:
            draft, program, riders = self._drafted(packet)
        except (Unplanned, StepFailed, SkiffError, DecodeError):
            fds.send_packet(monitor, packet, [control])  # an interpreter does it, or says what is wrong
            return
        try:
            fds.send_packet(monitor, encode(draft), [control, *riders])
            monitor.send(program, socket.MSG_NOSIGNAL)
        except OSError:
            discard(cgroups.existing(self.here, draft.group), draft.wish)
            raise
        finally:
            fds.close_all(riders)

    def _drafted(self, packet: bytes) -> tuple[Draft, bytes, list[int]]:
        """With the program, and the riders but for the control channel. Unplanned or StepFailed, and nothing
        is there then.
        """
        wish = decode_for_zygote(packet)
        if not isinstance(wish, Create) or wish.runtime or wish.init or wish.trace or wish.stdio.terminal:
            raise Unplanned("more than a program does")
        image, plan = self._planned(packet, wish)
        linux = plan.spec.linux or Linux()
        group = cgroups.existing(self.here, cgroup_of(wish, plan))
        create.make_group(self.here, group.path)
        riders: dict[str, int] = {}
        try:
            create.limit(group, linux)
            theirs, ours = pipes(stdin=wish.stdio.stdin)
            riders |= zip(THEIR_ENDS, theirs, strict=True)
            riders |= our_ends(ours)
            assert plan.spec.process
            create.own_streams(Streams.of(theirs), plan.spec.process, ())
            riders |= equipment(wish.bundle, group)
            if group.v2 is not None:
                riders["group"] = os.open(group.v2.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            fds.close_all(riders.values())
            discard(group, wish)
            raise
        draft = Draft(wish, group.path, plan.init, image.start, image.places, ("control", *riders))
        return draft, image.data, list(riders.values())

    def _planned(self, packet: bytes, wish: Create) -> tuple[Image, Plan]:
        """The program, and what it came from: perhaps a container like this one. Unplanned, StepFailed."""
        text = config.read(wish.bundle)
        found = self.likenesses.find(packet, text, wish.id)
        if found is not None:
            return found
        spec, filter = self.reader.spec(wish, text)
        group = cgroups.existing(self.here, _cgroup(spec, wish.id))
        program = self.spawner.program()
        init = becoming.become(
            program, spec, group, rootfs=wish.rootfs, at=wish.bundle, filter=filter, have=self.have
        )
        image = program.image()
        if len(image.data) > LONGEST:
            raise Unplanned("too long")
        plan = Plan(wish.id, spec, init)
        self.likenesses.keep(packet, text, wish.id, image, plan)
        return image, plan


def _cgroup(spec: Spec, id: str) -> str:
    return (spec.linux or Linux()).cgroups_path or f"/skiff/{id}"


def cgroup_of(wish: Create, plan: Plan) -> str:
    """The path that a container has instead of the one that the plan was made for."""
    return _cgroup(plan.spec, plan.id).replace(plan.id, wish.id)


def discard(group: cgroups.Group, wish: Create) -> None:
    """Take away what was made for a container that is not."""
    group.destroy()
    rootfs.let_mount_again(wish.rootfs)
    try:
        os.unlink(f"{wish.bundle}/{SOCKET}")
    except FileNotFoundError:
        pass
