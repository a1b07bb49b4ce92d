"""Branches of a container's file system: snapshot, fork, rollback.

    stopped   its writable layer is committed and it gets a fresh one on top: no byte is copied
    running   frozen for the moment in which its writable layer is copied, by reflink where the disk can

The rule: rollback loses nothing; what was there is a snapshot too. Committed layers that no branch, and no
container above, leads to are the collector's.
"""

import asyncio
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.container_view import ContainerState
from skiff.docker.network import NetworkingConfig
from skiff.docker.volume import Volume
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.changed import PREFIX
from skiff.engine.containers.lifecycle import Lifecycle
from skiff.engine.containers.record import Container, ContainerID, Records
from skiff.engine.containers.spec import merge
from skiff.engine.storage.apply import DRAFT
from skiff.engine.storage.copying import copy_tree
from skiff.engine.storage.leases import HeldLease, Leases
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.linux import trees
from skiff.oci.digest import ChainID

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Branch(Struct, frozen=True, kw_only=True, rename="pascal"):
    """A state of a container's file system, as stored under `<container>/<name>`."""

    container: str
    name: str
    chain: ChainID
    created_ns: int


class Cloner(Protocol):
    async def clone(self, name: str, new: str = "", *, still: bool = True) -> Volume:
        """A volume with the same content; an empty name makes an anonymous one. NotFound, Conflict."""
        ...


class Branches:
    """lifecycle: whose locks and verbs are used. freed: something may be the collector's now."""

    def __init__(
        self,
        *,
        state: StateStore,
        lifecycle: Lifecycle,
        snapshots: Snapshotter,
        cloner: Cloner,
        leases: Leases,
        announce: Announcer,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self._leases = leases
        self._freed = freed
        self._table = state.table("branch", Branch)
        self._branches = dict(self._table.all())
        self._lifecycle = lifecycle
        self._records: Records = lifecycle.records
        self._live = lifecycle.live
        self._snapshots = snapshots
        self._cloner = cloner
        self._announce = announce

    def list(self, text: str) -> Sequence[Branch]:
        """Those of a container, oldest first. NotFound."""
        id = self._records.find(text).id
        mine = [one for one in self._branches.values() if one.container == id]
        return sorted(mine, key=lambda one: one.created_ns)

    def roots(self) -> Sequence[str]:
        """What the collector must leave."""
        return [one.chain for one in list(self._branches.values())]

    async def snapshot(self, text: str, name: str) -> Branch:
        """Name the container's file system as it is now. Conflict when it has a snapshot of that name."""
        if not NAME.fullmatch(name):
            raise InvalidParameter(f"invalid name of a snapshot: {name!r}: expected {NAME.pattern}")
        id = self._branchable(text).id
        async with self._live.locks[id]:
            container = self._records.get(id)
            if f"{id}/{name}" in self._branches:
                raise Conflict(f"container {container.name} has a snapshot {name} already")
            async with self._standing_still([container]):
                branch = await self._taken(container, name)
        self._announce(container, "snapshot", snapshot=name)
        return branch

    async def fork(self, text: str, new: str) -> str:
        """The id of a new container with the same wish, files and anonymous volumes. Named ones it shares.

        It does not run. Addresses and the MAC that were asked for stay with the first.
        """
        bare = merge.check_name(new)
        id = self._branchable(text).id
        made = ContainerID(secrets.token_hex(32))
        with self._records.reserved(bare, made):
            async with self._live.locks[id]:
                container = self._records.get(id)
                with self._leases.hold() as lease:
                    async with self._standing_still([container]):
                        chain = await self._layer(container, lease)
                        clones = {name: await self._clone(name) for name in container.anonymous}
                    self._snapshots.prepare(SnapshotKey(made), chain)
            forked = self._records.put(_forked(container, made, bare, chain, clones))
        self._lifecycle.sandboxes.join(forked)
        self._announce(forked, "create")
        return made

    async def rollback(self, text: str, name: str) -> Branch:
        """The container's files as they were; the snapshot that was made of what they are, is told.

        A running container is stopped before and started after.
        """
        container = self._branchable(text)
        id = container.id
        branch = self._branch(container, name)
        running = container.state.running
        with self._live.keeping(id):
            if running:
                await self._lifecycle.stop(id)
            async with self._live.locks[id]:
                container = self._records.get(id)
                if container.state.running:
                    raise Conflict(f"container {container.name} was started meanwhile")
                before = self._free_name(id, f"before-{name}")
                with self._state.transaction():
                    saved = self._put(container, before, self._committed(container))
                    self._records.put(replace(self._records.get(id), chain=branch.chain))
                    self._snapshots.remove(SnapshotKey(id))
                    self._snapshots.prepare(SnapshotKey(id), branch.chain)
            self._announce(container, "rollback", snapshot=name)
            if running:
                await self._lifecycle.start(id)
        return saved

    def remove(self, text: str, name: str) -> None:
        """Forget a snapshot; its files go when nothing stands on them. NotFound."""
        branch = self._branch(self._records.find(text), name)
        self._drop(branch)

    def forget(self, id: str) -> None:
        """The container is gone for good: so are its snapshots."""
        for branch in [one for one in self._branches.values() if one.container == id]:
            self._drop(branch)

    # -- for volumes ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def still(self, volume: str) -> AsyncIterator[None]:
        """The running containers that have the volume stand still meanwhile."""
        async with AsyncExitStack() as stack:
            for id in sorted(self._records.volume_users(volume)):
                await stack.enter_async_context(self._live.locks[id])
            users = [self._records.get(id) for id in self._records.volume_users(volume)]
            await stack.enter_async_context(self._standing_still(users))
            yield

    def running(self, volume: str) -> Sequence[str]:
        """The names of the running containers that have it."""
        users = [self._records.get(id) for id in self._records.volume_users(volume)]
        return [container.name for container in users if container.state.running]

    # -- inside --------------------------------------------------------------------------------------------

    def _branchable(self, text: str) -> Container:
        """NotFound; Conflict for a container that could not start on a layer of its own.

        overlayfs refuses a layer that lies within another one: the image `host` is the whole machine, and our
        layers are part of it unless the data root is a file system of its own.
        """
        container = self._records.find(text)
        key = SnapshotKey(container.id)
        own = self._snapshots.directory(key)
        for lower in self._snapshots.lowers(key):
            if own.startswith(f"{lower.rstrip('/')}/") and os.stat(lower).st_dev == os.stat(own).st_dev:
                raise Conflict(
                    f"container {container.name} has no branches: it stands on this machine's own files, and "
                    "the data root is among them: expected a data root on a file system of its own"
                )
        return container

    @asynccontextmanager
    async def _standing_still(self, containers: Sequence[Container]) -> AsyncIterator[None]:
        """With the locks held. Those that somebody paused stay paused."""
        async with AsyncExitStack() as stack:
            for container in containers:
                task = self._live.tasks.get(container.id)
                if task is not None and not container.state.paused:
                    await task.freeze()
                    stack.push_async_callback(task.thaw)
            yield

    async def _taken(self, container: Container, name: str) -> Branch:
        if container.id in self._live.tasks:
            with self._leases.hold() as lease:
                return self._put(container, name, await self._copied(container, lease))
        with self._state.transaction():
            return self._put(container, name, self._committed(container))

    async def _layer(self, container: Container, lease: HeldLease) -> ChainID:
        if container.id in self._live.tasks:
            return await self._copied(container, lease)
        with self._state.transaction():
            return self._committed(container)

    def _committed(self, container: Container) -> ChainID:
        """Its writable layer, committed; a fresh one stands on it. Within a transaction."""
        key, chain = SnapshotKey(container.id), ChainID(PREFIX + secrets.token_hex(16))
        self._snapshots.commit(chain, key)
        self._snapshots.prepare(key, chain)
        self._records.put(replace(self._records.get(container.id), chain=chain))
        return chain

    async def _copied(self, container: Container, lease: HeldLease) -> ChainID:
        chain = ChainID(PREFIX + secrets.token_hex(16))
        lease.add(chain)
        draft = SnapshotKey(DRAFT + chain)
        self._snapshots.prepare(draft, container.chain)
        try:
            source = self._snapshots.directory(SnapshotKey(container.id))
            await asyncio.to_thread(copy_tree, source, self._snapshots.directory(draft))
            self._snapshots.commit(chain, draft)
        except BaseException:
            # its files first: on a full disk no record can be written
            await asyncio.to_thread(trees.remove, self._snapshots.directory(draft))
            self._snapshots.remove(draft)
            raise
        return chain

    async def _clone(self, name: str) -> Volume:
        return await self._cloner.clone(name, still=False)

    def _branch(self, container: Container, name: str) -> Branch:
        try:
            return self._branches[f"{container.id}/{name}"]
        except KeyError:
            raise NotFound(f"container {container.name} has no snapshot {name}") from None

    def _free_name(self, id: str, wish: str) -> str:
        name, number = wish, 1
        while f"{id}/{name}" in self._branches:
            number += 1
            name = f"{wish}-{number}"
        return name

    def _put(self, container: Container, name: str, chain: ChainID) -> Branch:
        branch = Branch(container=container.id, name=name, chain=chain, created_ns=time.time_ns())
        self._table.put(f"{container.id}/{name}", branch)
        self._branches[f"{container.id}/{name}"] = branch
        return branch

    def _drop(self, branch: Branch) -> None:
        key = f"{branch.container}/{branch.name}"
        self._table.delete(key)
        self._branches.pop(key, None)
        self._freed()


def _forked(
    container: Container,
    id: ContainerID,
    name: str,
    chain: ChainID,
    clones: Mapping[str, Volume],
) -> Container:
    config = container.config
    if config.hostname == container.id[:12]:
        config = replace(config, hostname=id[:12])
    endpoints = {
        network: asked and replace(asked, ipam_config=None, mac_address="")
        for network, asked in (container.networking.endpoints_config or {}).items()
    }
    mounts = tuple(
        replace(plan, name=clones[plan.name].name, source=clones[plan.name].mountpoint)
        if plan.name in clones
        else plan
        for plan in container.mounts
    )
    return replace(
        container,
        id=id,
        name=name,
        created_ns=time.time_ns(),
        chain=chain,
        config=config,
        networking=NetworkingConfig(endpoints_config=endpoints or None),
        mounts=mounts,
        anonymous=tuple(volume.name for volume in clones.values()),
        state=ContainerState(),
        wish="",
        restarts=0,
        stopped_by_user=False,
        was_started=False,
    )
