"""The builder: a process that makes one container, hands it to its monitor and ends.

    zygote ──fork──► monitor, asleep ──fork──► builder ──clone──► init, the monitor's child too (CLONE_PARENT)
                        ◄── Built + control channel, pidfd, handshake, streams ──┘

What the making takes of memory goes with the builder; a monitor may stay for years. For the container that is
expected next all three wait, the builder for its wish.
"""

import os
import socket
from typing import Final

from msgspec import Struct, json, structs

from skiff.linux import cgroups, fds, processes, watching
from skiff.oci.runtime import Spec, State
from skiff.runtime.isolation import ahead, config, create
from skiff.runtime.isolation.create import Container, Streams
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.monitor.control import listening
from skiff.runtime.monitor.streams import pipes
from skiff.runtime.protocol import Create, StepError


class Built(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a builder leaves behind. error: nothing but what is left to be reaped.

    pid: 0 when the monitor has to have it made by another runtime. group: its cgroup, also after an error.
    riders: the names of the descriptors that ride along: control (to the engine), pidfd, sync (handshake),
    listener (monitor.sock), oom (the group's event), and the streams: stdin, stdout, stderr, or master.
    """

    wish: Create
    pid: int = 0
    namespaces: int = 0
    owns_pids: bool = False
    group: str = ""
    has_hooks: bool = False
    riders: tuple[str, ...] = ()
    error: StepError | None = None


encode: Final = json.Encoder().encode
decode: Final = json.Decoder(Built).decode


class Builder:
    """waiting: an init that was cloned ahead, or None; ours from here on."""

    def __init__(self, here: cgroups.Layout, reader: config.Reader, waiting: Container | None = None) -> None:
        self.here = here
        self.reader = reader
        self.waiting = waiting

    def build(self, wish: Create, control: int, monitor: socket.socket) -> None:
        """Make it and tell the monitor; nothing of it is ours then."""
        riders = {"control": control}
        if wish.trace:
            self.dismiss()  # every step is to be seen
            bundle = os.open(wish.bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            watching.to_file(bundle, wish.trace)
        try:
            if wish.runtime:
                self.dismiss()
                built = Built(wish=wish)
            else:
                built = self._native(wish, riders)
        except StepFailed as failure:
            built = Built(wish=wish, error=failure.error)
        built = structs.replace(built, riders=tuple(riders))
        fds.send_packet(monitor, encode(built), riders.values())

    def dismiss(self) -> None:
        """The init that waits is not needed."""
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            create.kill(waiting)
            waiting.group.destroy()

    def _native(self, wish: Create, riders: dict[str, int]) -> Built:
        try:
            seen = config.glance(config.read(wish.bundle))
        except StepFailed:
            self.dismiss()
            raise
        terminal = wish.stdio.terminal
        theirs, ours = ((-1,) * 3, (-1,) * 3) if terminal else pipes(stdin=wish.stdio.stdin)
        streams = Streams(stdin=theirs[0], stdout=theirs[1], stderr=theirs[2])
        if seen.namespace("user") is not None:
            self.dismiss()
            container = self._prepared(wish, streams)
        else:
            container = self._told(wish, seen, streams)
        try:
            self._equip(wish, container, riders)
            if not container.namespaces:
                create.escort(container, lambda: self._made_of(wish))
        except BaseException:
            create.kill(container)
            container.group.destroy()
            raise
        riders["pidfd"] = container.pidfd
        if container.sync is not None:
            riders["sync"] = container.sync.detach()
        if terminal:
            riders["master"] = container.master
        else:
            names = ("stdin", "stdout", "stderr")
            riders.update((name, fd) for name, fd in zip(names, ours, strict=True) if fd >= 0)
        return Built(
            wish=wish,
            pid=container.pid,
            namespaces=container.namespaces,
            owns_pids=container.owns_pids,
            group=container.group.path,
            has_hooks=seen.has_hooks,
        )

    def _prepared(self, wish: Create, streams: Streams) -> Container:
        spec, filter = self.reader.spec(wish)
        return create.create(
            id=wish.id,
            bundle=wish.bundle,
            spec=spec,
            streams=streams,
            rootfs_mounts=wish.rootfs,
            with_init=wish.init,
            filter=filter,
            here=self.here,
            flags=processes.CLONE_PARENT,
        )

    def _made_of(self, wish: Create) -> tuple[Spec, State]:
        spec, _ = self.reader.spec(wish)
        return spec, create.state_of(wish.id, wish.bundle, spec, "creating")

    def _equip(self, wish: Create, container: Container, riders: dict[str, int]) -> None:
        """What the monitor will need beside, while init is at work."""
        with step_failed("monitor"):
            riders["listener"] = listening(wish.bundle).detach()
            if (oom := container.group.oom_event()) >= 0:
                riders["oom"] = oom

    def _told(self, wish: Create, seen: config.Glance, streams: Streams) -> Container:
        """An init that was told what to become: the one that waits, when it was born as it should."""
        path = seen.linux.cgroups_path or f"/skiff/{wish.id}"
        pids = seen.namespace("pid")
        waiting = self.waiting
        if waiting is not None and waiting.group.path == path and pids == "":
            try:
                ahead.order(waiting, wish, streams)
            except StepFailed:
                pass  # it has been killed
            else:
                self.waiting = None
                return waiting
        self.dismiss()
        group = create.make_group(self.here, path)
        try:
            container = ahead.clone(group, self.reader, pids=pids, flags=processes.CLONE_PARENT)
            try:
                ahead.order(container, wish, streams)
            except BaseException:
                create.kill(container)
                raise
        except BaseException:
            group.destroy()
            raise
        return container
