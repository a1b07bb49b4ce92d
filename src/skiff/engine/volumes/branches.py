"""Branches of volumes: snapshot, clone, rollback. Copies, by reflink where the disk can.

    volumes/<name>/_data             the content
    volumes/<name>/snapshots/<name>  what it was

The rule: rollback loses nothing; what was there becomes a snapshot too.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from skiff.docker.volume import Volume
from skiff.engine.storage.copying import copy_tree
from skiff.engine.volumes.local import NAME
from skiff.engine.volumes.service import Volumes
from skiff.errors import Conflict, InvalidParameter, NotFound, NotImplementedHere
from skiff.linux import trees

DRAFT = "draft-"  # how the names of unfinished copies begin

Still = Callable[[str], AbstractAsyncContextManager[None]]


class VolumeBranches:
    """still: whoever runs with that volume stands still inside. running: the names of those."""

    def __init__(self, volumes: Volumes, *, still: Still, running: Callable[[str], Sequence[str]]) -> None:
        self._volumes = volumes
        self._still = still
        self._running = running
        self._lock = asyncio.Lock()

    def recover(self) -> None:
        """At boot: copies that were cut short go; a rollback that had its copy is completed."""
        self._volumes.recover()
        for volume in self._volumes.all():
            if os.path.isdir(os.path.dirname(volume.mountpoint)):
                _recover(volume.mountpoint)

    def list(self, name: str) -> Sequence[str]:
        """Names of its snapshots, sorted. NotFound."""
        directory = _snapshots(self._plain(name))
        return sorted(one for one in os.listdir(directory)) if os.path.isdir(directory) else []

    async def snapshot(self, name: str, label: str) -> None:
        """Keep the content as it is now under a label. Conflict, InvalidParameter, NotFound."""
        volume = self._plain(name)
        target = _place(volume, label)
        async with self._lock:
            if os.path.exists(target):
                raise Conflict(f"volume {name} has a snapshot {label} already")
            async with self._still(name):
                await asyncio.to_thread(_copy, volume.mountpoint, target)

    async def clone(self, name: str, new: str = "", *, still: bool = True) -> Volume:
        """A new volume with the same content. new: empty for an anonymous one. Conflict when it exists.

        still: False when the caller made sure that nobody writes.
        """
        volume = self._plain(name)
        async with self._still(name) if still else nullcontext():
            return await self._volumes.create_full(
                new, volume.labels, lambda directory: copy_tree(volume.mountpoint, directory)
            )

    async def rollback(self, name: str, label: str) -> str:
        """The content as it was; the label under which what it is now is kept. Conflict while in use."""
        volume = self._plain(name)
        source = _place(volume, label)
        async with self._lock:
            if not os.path.isdir(source):
                raise NotFound(f"volume {name} has no snapshot {label}")
            if running := self._running(name):
                raise Conflict(f"volume {name} is in use by {', '.join(running)}: stop it first")
            before, number = f"before-{label}", 1
            while os.path.exists(_place(volume, before)):
                number += 1
                before = f"before-{label}-{number}"
            await asyncio.to_thread(_swap, volume.mountpoint, source, _place(volume, before))
        return before

    async def remove(self, name: str, label: str) -> None:
        """Delete a snapshot. NotFound."""
        place = _place(self._plain(name), label)
        if not os.path.isdir(place):
            raise NotFound(f"volume {name} has no snapshot {label}")
        await asyncio.to_thread(shutil.rmtree, place)

    def _plain(self, name: str) -> Volume:
        volume = self._volumes.inspect(name)
        if volume.options or volume.driver != "local":
            raise NotImplementedHere(f"volume {name} lies behind a mount: it has no snapshots")
        return volume


def _snapshots(volume: Volume) -> str:
    return f"{os.path.dirname(volume.mountpoint)}/snapshots"


def _place(volume: Volume, label: str) -> str:
    if not NAME.fullmatch(label):
        raise InvalidParameter(f"invalid name of a snapshot: {label!r}: expected {NAME.pattern}")
    return f"{_snapshots(volume)}/{label}"


def _copy(source: str, target: str) -> None:
    """All of it or nothing: copied aside, then renamed."""
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    draft = f"{os.path.dirname(os.path.dirname(target))}/{DRAFT}{secrets.token_hex(4)}"
    try:
        copy_tree(source, draft)
        os.rename(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _swap(current: str, source: str, before: str) -> None:
    """A crash between the two renames is mended by the next boot: the copy is whole by then."""
    draft = f"{current}.new"
    try:
        copy_tree(source, draft)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    os.rename(current, before)
    os.rename(draft, current)


def _recover(current: str) -> None:
    copy = f"{current}.new"
    if os.path.isdir(copy) and not os.path.isdir(current):
        os.rename(copy, current)
    directory = os.path.dirname(current)
    for name in os.listdir(directory):
        if name == os.path.basename(copy) or name.startswith(DRAFT):
            trees.remove(f"{directory}/{name}")
