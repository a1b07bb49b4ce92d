"""The front desk of volumes: create, list, inspect, remove, prune, and who has one open.

It owns the volume records. It does not know containers: it asks `users`.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
from msgspec import structs

from skiff.docker.filters import Filters
from skiff.docker.volume import UsageData, Volume, VolumeCreate, VolumeList, VolumesPruneReport
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.state import MemoryState, StateStore
from skiff.engine.volumes import copying
from skiff.engine.volumes.driver import VolumeDriver
from skiff.errors import Conflict, InvalidParameter, NotFound

NOUN: Final = "volume"
ANONYMOUS: Final = "com.docker.volume.anonymous"
LIST_FILTERS: Final = ("dangling", "driver", "label", "name")
PRUNE_FILTERS: Final = ("all", "label", "label!")

Users = Callable[[str], Sequence[str]]
"""Ids of the containers that have this volume in their mounts, running or not."""


class Publish(Protocol):
    """Tells the world that something happened to a volume: (`create`, name, {"driver": "local"})."""

    def __call__(self, action: str, actor: str, attributes: Mapping[str, str]) -> None: ...


class Volumes:
    """Named directories with a driver."""

    def __init__(
        self,
        state: StateStore,
        drivers: Sequence[VolumeDriver],
        *,
        users: Users,
        publish: Publish,
        bin: Bin | None = None,
    ) -> None:
        """bin: where removed ones are kept; without one nothing is."""
        self._table = state.table("volume", Volume)
        self._volumes = dict(self._table.all())
        self._drivers = {driver.name: driver for driver in drivers}
        self._users = users
        self._publish = publish
        self.bin = Bin(MemoryState(), keeping=False) if bin is None else bin
        self._open: dict[str, set[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def create(self, wish: VolumeCreate) -> Volume:
        """The volume of that name, made if it is not there. Engine API, VolumeCreate."""
        return await self.ensure(wish.name, driver=wish.driver, options=wish.driver_opts, labels=wish.labels)

    async def ensure(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """The volume of that name, made if it is not there; without a name an anonymous one.

        InvalidParameter for a bad name or option, NotFound for an unknown driver, Conflict when the name
        belongs to another driver.
        """
        name, labels = _named(name, labels)
        maker = self._drivers.get(driver or "local")
        if maker is None:
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
            )
        async with self._lock(name):
            there = self._volumes.get(name)
            if there is not None:
                if driver and driver != there.driver:
                    raise Conflict(f"create {name}: conflict: volume name must be unique")
                return there
            return await self._make(name, driver or "local", maker, dict(options or {}), labels)

    async def _make(
        self,
        name: str,
        driver: str,
        maker: VolumeDriver,
        options: dict[str, str],
        labels: Mapping[str, str] | None,
    ) -> Volume:
        _check(maker, name, options)
        mountpoint = await asyncio.to_thread(maker.create, name, options)
        volume = _new(name, driver, mountpoint, labels, options)
        self._put(volume)
        self._publish("create", name, {"driver": driver})
        return volume

    async def create_full(
        self, name: str, labels: Mapping[str, str] | None, fill: Callable[[str], None]
    ) -> Volume:
        """A new local volume that is there once it is whole. Conflict when there is one of that name.

        fill: makes the directory of that path, in a thread. Without a name it is an anonymous volume.
        """
        name, labels = _named(name, labels)
        maker = self._drivers["local"]
        async with self._lock(name):
            if name in self._volumes:
                raise Conflict(f"a volume named {name} exists already")
            _check(maker, name, {})
            try:
                await asyncio.to_thread(lambda: fill(maker.draft(name)))
                volume = _new(name, maker.name, maker.place(name), labels)
                self._put(volume)  # tells `recover` that the draft is whole
                try:
                    maker.appear(name)
                except BaseException:
                    self._forget(name)
                    raise
            except BaseException:
                await asyncio.to_thread(maker.abandon, name)
                raise
        self._publish("create", name, {"driver": maker.name})
        return volume

    def recover(self) -> None:
        """At boot: a draft that has its row appears, what was cut short goes."""
        for driver in self._drivers.values():
            for name in driver.drafts():
                volume = self._volumes.get(name)
                if volume is not None and not driver.has(volume):
                    driver.appear(name)
                else:
                    driver.abandon(name)

    def inspect(self, name: str) -> Volume:
        """NotFound, as Docker says it."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list(self, filters: Filters) -> VolumeList:
        """filters: those of LIST_FILTERS."""
        return VolumeList(volumes=tuple(self._matching(filters)))

    def all(self) -> Sequence[Volume]:
        return list(self._volumes.values())

    def usage(self) -> Sequence[Volume]:
        """All volumes with their size and number of users. Slow: it walks every directory."""
        return [self._measured(volume) for volume in list(self._volumes.values())]

    async def remove(self, name: str, *, force: bool = False, lost: bool = False) -> None:
        """Delete it with its content. Conflict while a container uses it; force forgives a missing one.

        lost: for good, even where removed volumes are kept for a while.
        """
        async with self._lock(name):
            if force and name not in self._volumes:
                return
            volume = self.inspect(name)
            users = self._users(name)
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await self._delete(volume, lost=lost)
        self._locks.pop(name, None)

    async def adopt(self, volume: Volume, key: str) -> None:
        """A removed volume is there again; key: of what its driver retired. Conflict."""
        async with self._lock(volume.name):
            if volume.name in self._volumes:
                raise Conflict(f"a volume named {volume.name} exists already")
            driver = self._drivers[volume.driver]
            # The row first: without a directory it is dropped at boot, and the entry in the bin stays.
            self._put(volume)
            try:
                await asyncio.to_thread(driver.revive, volume, key)
            except BaseException:
                self._forget(volume.name)
                raise
        self._publish("create", volume.name, {"driver": volume.driver})

    def strays(self) -> Sequence[str]:
        """What drivers hold that is no volume, as after a crash."""
        return [
            name for driver in self._drivers.values() for name in driver.held() if name not in self._volumes
        ]

    def take_up(self, name: str) -> None:
        """A stray becomes a volume. Its labels are lost."""
        driver = next(one for one in self._drivers.values() if name in one.held())
        self._put(Volume(created_at=_now(), driver=driver.name, mountpoint=driver.place(name), name=name))

    def missing(self) -> Sequence[str]:
        """Volumes whose directory is gone."""
        return [one.name for one in self._volumes.values() if not self._drivers[one.driver].has(one)]

    def forget_missing(self, name: str) -> None:
        if name in self.missing():
            self._forget(name)

    async def prune(
        self, filters: Filters, *, named: bool = False, dry_run: bool = False
    ) -> VolumesPruneReport:
        """Delete what no container uses: anonymous ones; with `named` or the filter `all` named ones too.

        dry_run: only tell what would go.
        """
        with self.bin.act():
            return await self._prune(filters, named, dry_run)

    @staticmethod
    def _all(filters: Filters) -> bool:
        """The filter `all`, whose mistakes have words of their own."""
        for value in filters.values("all"):
            if value.lower() not in ("1", "t", "true", "0", "f", "false"):
                raise InvalidParameter(
                    f"invalid filter 'all': strconv.ParseBool: parsing \"{value}\": invalid syntax"
                )
        return bool(filters.boolean("all", False))

    async def _prune(self, filters: Filters, named: bool, dry_run: bool) -> VolumesPruneReport:
        everything = named or self._all(filters)
        deleted: list[str] = []
        freed = 0
        for volume in sorted(self._volumes.values(), key=lambda volume: volume.name):
            if not everything and ANONYMOUS not in (volume.labels or {}):
                continue
            # What lies behind a mount is not ours to delete.
            if volume.options or not filters.labels(volume.labels) or self._users(volume.name):
                continue
            async with self._lock(volume.name):
                if volume.name not in self._volumes or self._users(volume.name):
                    continue
                freed += await asyncio.to_thread(copying.size, volume.mountpoint)
                if not dry_run:
                    await self._delete(volume)
            deleted.append(volume.name)
        if dry_run:
            return VolumesPruneReport(volumes_deleted=tuple(deleted), space_reclaimed=freed)
        self._publish("prune", "", {"reclaimed": str(freed)})
        return VolumesPruneReport(volumes_deleted=tuple(deleted), space_reclaimed=freed)

    async def open(self, name: str, user: str) -> str:
        """The directory with the content, mounted if it needs to be. Repeating it changes nothing.

        user: a container's id, to be given to `close` again.
        """
        async with self._lock(name):
            volume = self.inspect(name)
            path = await asyncio.to_thread(self._drivers[volume.driver].mount, volume)
            if user not in self._open.setdefault(name, set()):
                self._open[name].add(user)
                self._publish("mount", name, {"driver": volume.driver, "container": user})
            return path

    async def close(self, name: str, user: str) -> None:
        """Undo open. What is not open, or no longer there, is no error."""
        async with self._lock(name):
            users = self._open.get(name, set())
            if user not in users:
                return
            users.discard(user)
            volume = self._volumes.get(name)
            if volume is None:
                return
            if not users:
                del self._open[name]
                await asyncio.to_thread(self._drivers[volume.driver].unmount, volume)
            self._publish("unmount", name, {"driver": volume.driver, "container": user})

    async def fill(self, name: str, source: str) -> None:
        """First use: copy what the image has at `source` (a directory of the host) into an empty volume."""
        async with self._lock(name):
            volume = self.inspect(name)
            driver = self._drivers[volume.driver]
            target = await asyncio.to_thread(driver.mount, volume)
            try:
                if await asyncio.to_thread(copying.is_empty, target):
                    await asyncio.to_thread(copying.fill, target, source)
            finally:
                if not self._open.get(name):
                    await asyncio.to_thread(driver.unmount, volume)

    async def _delete(self, volume: Volume, *, lost: bool = False) -> None:
        # The row goes last: a crash in between leaves a volume that can be removed again.
        driver = self._drivers[volume.driver]
        if lost or not self.bin.keeping:
            await asyncio.to_thread(driver.remove, volume)
        else:
            key = secrets.token_hex(8)
            entry = self.bin.keep(NOUN, key, volume.name, msgspec.json.encode(volume))
            try:
                await asyncio.to_thread(driver.retire, volume, key)
            except BaseException:
                self.bin.forget(entry.id)
                raise
        self._forget(volume.name)
        self._publish("destroy", volume.name, {"driver": volume.driver})

    def _forget(self, name: str) -> None:
        self._table.delete(name)
        del self._volumes[name]

    def _put(self, volume: Volume) -> None:
        self._table.put(volume.name, volume)
        self._volumes[volume.name] = volume

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _matching(self, filters: Filters) -> Iterator[Volume]:
        dangling = filters.boolean("dangling")
        for volume in self._volumes.values():
            if dangling is not None and dangling == bool(self._users(volume.name)):
                continue
            if not filters.matches("name", volume.name):
                continue
            if filters.exact("driver", volume.driver) and filters.labels(volume.labels):
                yield volume

    def _measured(self, volume: Volume) -> Volume:
        usage = UsageData(
            ref_count=len(self._users(volume.name)),
            size=-1 if volume.options else copying.size(volume.mountpoint),
        )
        return structs.replace(volume, usage_data=usage)


def _named(name: str, labels: Mapping[str, str] | None) -> tuple[str, Mapping[str, str] | None]:
    """One without a name gets one, and the label of those."""
    return (name, labels) if name else (secrets.token_hex(32), {**(labels or {}), ANONYMOUS: ""})


def _check(maker: VolumeDriver, name: str, options: Mapping[str, str]) -> None:
    try:
        maker.check(name, options)
    except InvalidParameter as error:
        raise InvalidParameter(f"create {name}: {error}") from error


def _new(
    name: str,
    driver: str,
    mountpoint: str,
    labels: Mapping[str, str] | None,
    options: dict[str, str] | None = None,
) -> Volume:
    return Volume(
        created_at=_now(),
        driver=driver,
        labels=dict(labels) if labels is not None else None,
        mountpoint=mountpoint,
        name=name,
        options=options or None,
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
