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

    def draft(self, name: str) -> str:
        """A directory that is not there yet, in a place of its own: it will be the content of a volume."""
        ...

    def appear(self, name: str) -> None:
        """The draft of that name is the volume, at once. Conflict when something is in its place."""
        ...

    def abandon(self, name: str) -> None:
        """Delete the draft. It is no error if it is gone already."""
        ...

    def drafts(self) -> set[str]:
        """The names of those that neither appeared nor were abandoned."""
        ...

    def remove(self, volume: Volume) -> None:
        """Delete it with its content. It is no error if it is gone already."""
        ...

    def retire(self, volume: Volume, key: str) -> None:
        """Take it out of sight with its content; its name is free. Conflict while it is in the way."""
        ...

    def revive(self, volume: Volume, key: str) -> None:
        """Undo retire: the content is at the volume's mountpoint again. NotFound."""
        ...

    def expunge(self, key: str) -> None:
        """Delete what was retired. It is no error if it is gone already."""
        ...

    def retired(self) -> set[str]:
        """The keys of what is retired."""
        ...

    def retired_bytes(self, key: str) -> int:
        """What it takes on disk. Slow."""
        ...

    def place(self, name: str) -> str:
        """The mountpoint of a volume of that name."""
        ...

    def held(self) -> set[str]:
        """The names under which it has something."""
        ...

    def has(self, volume: Volume) -> bool:
        """Whether its directory is there."""
        ...

    def mount(self, volume: Volume) -> str:
        """The directory that holds the content, mounted if need be. Repeating it changes nothing."""
        ...

    def unmount(self, volume: Volume) -> None:
        """Undo mount; called when the last user is gone."""
        ...
