"""An init cloned ahead: it stands in its cgroup and pid namespace and waits to be told what to become.

    monitor ──clone──► init: warms up … ◄──ORDER + streams── monitor
                         └─ opens what the container needs by itself, then goes on as any init (handshake.py)

So a container that is expected costs no fork, no group and no cold page when it comes. Not for one with a
user namespace: its init could open nothing of the host, so its parent prepares all (create.create).
"""

import os
import socket
from collections.abc import Callable
from typing import NoReturn

from skiff.linux import cgroups, fds, namespaces
from skiff.runtime.isolation import config, create, handshake, init
from skiff.runtime.isolation.create import Container, Streams
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.protocol import MAX_PACKET, Create, decode_for_zygote, encode

Warm = Callable[[], None]


def clone(
    group: cgroups.Group,
    reader: config.Reader,
    *,
    warm: Warm | None = None,
    pids: str | None = "",
    flags: int = 0,
) -> Container:
    """An init in this group, which waits for `order`. StepFailed.

    warm: what it does meanwhile. pids: "" for a pid namespace of its own, a path to be born in that one, None
    for ours. flags: further ones to clone it with.
    """
    pid_namespace = -1
    if pids:
        with step_failed(f"join {pids}"):
            pid_namespace = namespaces.open_namespace(pids)
    flags |= namespaces.CLONE_NEWPID if pids == "" else 0
    try:
        return create.born(group, flags, pid_namespace, lambda sync: _wait(group, reader, warm, sync))
    finally:
        if pid_namespace >= 0:
            os.close(pid_namespace)


def order(container: Container, wish: Create, streams: Streams) -> None:
    """Tell it what to become; create.escort then leads it there. StepFailed when it has gone."""
    if container.sync is None:
        raise StepFailed("create", text="init was told before")
    riders = () if wish.stdio.terminal else (streams.stdin, streams.stdout, streams.stderr)
    with step_failed("create"):
        handshake.say(container.sync, handshake.ORDER, encode(wish), riders)


def _wait(group: cgroups.Group, reader: config.Reader, warm: Warm | None, sync: socket.socket) -> NoReturn:
    def prepare() -> init.Charge:
        if warm is not None:
            warm()
        packet, riders = fds.recv_packet(sync, MAX_PACKET)
        if packet[:1] != handshake.ORDER:
            raise ConnectionAbortedError(103, "the parent has gone")
        wish = decode_for_zygote(packet[1:])
        if not isinstance(wish, Create):
            raise StepFailed("create", text="not an order")
        return _charge(group, reader, wish, riders)

    init.become(prepare, sync)


def _charge(group: cgroups.Group, reader: config.Reader, wish: Create, riders: list[int]) -> init.Charge:
    spec, filter = reader.spec(wish)
    streams = Streams(stdin=riders[0], stdout=riders[1], stderr=riders[2]) if riders else Streams()
    return create.charge(
        create.plan_namespaces(create.checked(spec)[0], born=True),
        group,
        id=wish.id,
        bundle=wish.bundle,
        spec=spec,
        streams=streams,
        rootfs_mounts=wish.rootfs,
        with_init=wish.init,
        filter=filter,
    )
