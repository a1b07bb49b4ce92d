"""What a volume driver does. The local one is in local.py; others would stand beside it."""

from collections.abc import Mapping
from typing import Protocol

from skiff.docker.volume import Volume


class VolumeDriver(Protocol):
    """Blocking. Errors carry Docker's words without the verb in front; the service adds it."""

    name: str

    def check(self, name: str, options: Mapping[str, str]) -> None:
        """InvalidParameter for a name or options that this driver cannot do."""
        ...

    def create(self, name: str, options: Mapping[str, str]) -> str:
        """Make it; the mountpoint that inspect shows."""
        ...

    def remove(self, volume: Volume) -> None:
        """Delete it with its content. It is no error if it is gone already."""
        ...

    def mount(self, volume: Volume) -> str:
        """The directory that holds the content, mounted if need be. Repeating it changes nothing."""
        ...

    def unmount(self, volume: Volume) -> None:
        """Undo mount; called when the last user is gone."""
        ...
