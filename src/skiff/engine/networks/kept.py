"""Removed networks that can come back: their record is kept, their bridge is made anew."""

import msgspec

from skiff.engine.networks.record import Network
from skiff.engine.networks.service import NOUN, Networks
from skiff.engine.storage.removed import Bin, Removed


class KeptNetworks:
    """A Kept."""

    noun = NOUN

    def __init__(self, bin: Bin, networks: Networks) -> None:
        self._bin = bin
        self._networks = networks

    async def restore(self, removed: Removed, name: str) -> str:
        network = msgspec.json.decode(removed.record, type=Network)
        return self._networks.adopt(network, name or network.name)

    async def expunge(self, removed: Removed) -> None:
        """Nothing is left of it."""

    def size(self, removed: Removed) -> int:
        return 0

    def settle(self) -> None:
        for entry in self._bin.of(NOUN):
            if entry.key in self._networks.records.networks:
                self._bin.forget(entry.id)  # the removal did not come so far, or was undone
