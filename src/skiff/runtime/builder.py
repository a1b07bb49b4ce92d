"""The builder: a process that makes one container, hands it to its monitor and ends.

    monitor ──fork──► builder ──clone──► init, the monitor's child too (CLONE_PARENT)
       ◄── Built + control channel, pidfd, handshake, streams ──┘

For what a program of system calls (drafter.py) does not do: hooks, user namespaces, terminals, a start that
is traced, and to find the words for what failed. What the making takes of memory goes with the builder; a
monitor may stay for years.
"""

import os
import socket
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, json, structs

from skiff.linux import cgroups, fds, processes, watching
from skiff.runtime.isolation import config, create
from skiff.runtime.isolation.create import Streams
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


STREAMS: Final = ("stdin", "stdout", "stderr")
encode: Final = json.Encoder().encode
decode: Final = json.Decoder(Built).decode


class Builder:
    def __init__(self, here: cgroups.Layout, reader: config.Reader) -> None:
        self.here = here
        self.reader = reader

    def build(self, wish: Create, control: int, monitor: socket.socket) -> None:
        """Make it and tell the monitor; nothing of it is ours then."""
        riders = {"control": control}
        if wish.trace:
            bundle = os.open(wish.bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            watching.to_file(bundle, wish.trace)
        try:
            built = Built(wish=wish) if wish.runtime else self._native(wish, riders)
        except StepFailed as failure:
            built = Built(wish=wish, error=failure.error)
        _tell(monitor, built, riders)

    def build_again(self, wish: Create, streams: Streams, monitor: socket.socket) -> None:
        """For a monitor that has all but init: nothing else is made."""
        riders: dict[str, int] = {}
        try:
            built = self._made(wish, streams, riders)
        except StepFailed as failure:
            built = Built(wish=wish, error=failure.error)
        _tell(monitor, built, riders)

    def _native(self, wish: Create, riders: dict[str, int]) -> Built:
        terminal = wish.stdio.terminal
        theirs, ours = ((-1,) * 3, (-1,) * 3) if terminal else pipes(stdin=wish.stdio.stdin)
        built = self._made(wish, Streams.of(theirs), riders)
        riders |= our_ends(ours)
        return built

    def _made(self, wish: Create, streams: Streams, riders: dict[str, int]) -> Built:
        spec, filter = self.reader.spec(wish)
        container = create.create(
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
        try:
            if "control" in riders:
                riders |= equipment(wish.bundle, container.group)
        except BaseException:
            create.kill(container)
            container.group.destroy()
            raise
        riders["pidfd"] = container.pidfd
        if container.sync is not None:
            riders["sync"] = container.sync.detach()
        if container.master >= 0:
            riders["master"] = container.master
        return Built(
            wish=wish,
            pid=container.pid,
            namespaces=container.namespaces,
            owns_pids=container.owns_pids,
            group=container.group.path,
            has_hooks=spec.hooks is not None,
        )


def equipment(bundle: str, group: cgroups.Group) -> dict[str, int]:
    """What a monitor needs beside its container: listener and oom, if there is that. StepFailed."""
    with step_failed("monitor"):
        found = {"listener": listening(bundle).detach()}
        try:
            if (oom := group.oom_event()) >= 0:
                found["oom"] = oom
        except BaseException:
            fds.close_all(found.values())
            raise
        return found


def our_ends(numbers: Sequence[int]) -> dict[str, int]:
    """The other ends of init's streams, as riders; those that are there."""
    return {name: fd for name, fd in zip(STREAMS, numbers, strict=True) if fd >= 0}


def _tell(monitor: socket.socket, built: Built, riders: dict[str, int]) -> None:
    fds.send_packet(monitor, encode(structs.replace(built, riders=tuple(riders))), riders.values())
