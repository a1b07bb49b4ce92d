"""Removed networks that can come back: their record is kept, their bridge is made anew."""

import msgspec

from skiff.engine.networks.record import Network
from skiff.engine.networks.service import NOUN, Networks
from skiff.engine.storage.removed import Removed


class KeptNetworks:
    """A Kept."""

    noun = NOUN

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def restore(self, removed: Removed, name: str) -> str:
        network = msgspec.json.decode(removed.record, type=Network)
        return self._networks.adopt(network, name or network.name)

    async def expunge(self, removed: Removed) -> None:
        """Nothing is left of it."""

    def size(self, removed: Removed) -> int:
        return 0

    def settle(self) -> None:
        """A network that is there again although an entry tells of it makes the restoring a Conflict."""
