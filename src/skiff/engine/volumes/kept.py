"""Removed volumes that can come back. Their directories are elsewhere meanwhile: names are free at once."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from skiff.docker.volume import Volume
from skiff.engine.storage.removed import Bin, Removed
from skiff.engine.volumes.driver import VolumeDriver
from skiff.engine.volumes.service import NOUN, Volumes


class KeptVolumes:
    """A Kept."""

    noun = NOUN

    def __init__(self, bin: Bin, volumes: Volumes, drivers: Mapping[str, VolumeDriver]) -> None:
        self._bin = bin
        self._volumes = volumes
        self._drivers = drivers

    async def restore(self, removed: Removed, name: str) -> str:
        volume = _volume(removed)
        driver = self._drivers[volume.driver]
        if name and name != volume.name:
            driver.check(name, volume.options or {})
            volume = replace(volume, name=name, mountpoint=driver.place(name))
        await self._volumes.adopt(volume, removed.key)
        return volume.name

    async def expunge(self, removed: Removed) -> None:
        self._drivers[_volume(removed).driver].expunge(removed.key)

    def size(self, removed: Removed) -> int:
        return self._drivers[_volume(removed).driver].retired_bytes(removed.key)

    def settle(self) -> None:
        for driver in self._drivers.values():
            there = driver.retired()
            mine = [entry for entry in self._bin.of(NOUN) if _volume(entry).driver == driver.name]
            for entry in mine:
                if entry.key not in there:
                    self._bin.forget(entry.id)  # the removal did not come so far, or was undone
                else:  # the removal came as far as this, or a restoring did not
                    self._volumes.forget_missing(entry.name)
            for key in there - {entry.key for entry in mine}:
                driver.expunge(key)


def _volume(removed: Removed) -> Volume:
    return msgspec.json.decode(removed.record, type=Volume)
