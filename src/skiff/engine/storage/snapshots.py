"""File-system states: the Snapshotter protocol and its values. No implementation is here.

    prepare(key, parent) ── active ──commit(name, key)──► committed ◄── parent of others
    view(key, parent)    ── view, read-only

`key` names an active snapshot or a view, `name` a committed one. Calls are short and touch no network; they
are not async and safe from several threads.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, NewType, Protocol

from msgspec import Struct

from skiff.oci.digest import ChainID
from skiff.oci.runtime import Mount

SnapshotKey = NewType("SnapshotKey", str)  # a container id, or any name that is no chain ID

Kind = Literal["active", "view", "committed"]


class Usage(Struct, frozen=True):
    """bytes: allocated on disk. Parents are not counted."""

    bytes: int
    inodes: int


class SnapshotInfo(Struct, frozen=True):
    """id: the key of an active snapshot or a view, the name of a committed one."""

    id: str
    kind: Kind
    parent: ChainID | None
    created: datetime


class Snapshotter(Protocol):
    """File-system states. `key` names an active snapshot or view, `name` a committed one.

    Mounts have destination "/": the root of the container. volatile: nothing needs to survive a power
    failure, so the kernel skips every flush (a container that is removed when it ends).
    """

    driver: str  # as `docker info` calls it: overlay2, vfs
    stacks_late: bool  # the parent may be named at commit: layers of an image are extracted side by side

    def prepare(
        self, key: SnapshotKey, parent: ChainID | None, *, volatile: bool = False
    ) -> list[Mount]:  # AlreadyExists, NotFound
        ...

    def view(self, key: SnapshotKey, parent: ChainID | None) -> list[Mount]:  # AlreadyExists, NotFound
        ...

    def mounts(self, key: SnapshotKey, *, volatile: bool = False) -> list[Mount]:  # NotFound
        """Ask anew before every mount: an earlier volatile mount is cleared away here."""
        ...

    def commit(self, name: ChainID, key: SnapshotKey, *, parent: ChainID | None = None) -> None:
        """The key is gone afterwards. parent: given only where `stacks_late` and the key was prepared on
        None.
        """
        ...

    def remove(self, snapshot: SnapshotKey | ChainID) -> None:
        """Out of sight at once; the files go at the next `sweep`. NotFound; Conflict while it has
        children.
        """
        ...

    def sweep(self) -> None:
        """Delete the files of what was removed. Slow: call it in a thread."""
        ...

    def usage(self, snapshot: SnapshotKey | ChainID) -> Usage:  # bytes, inodes; parents not counted; NotFound
        ...

    def info(self, snapshot: SnapshotKey | ChainID) -> SnapshotInfo:  # NotFound
        ...

    def walk(self) -> Iterator[SnapshotInfo]: ...

    def directory(self, snapshot: SnapshotKey | ChainID) -> str:
        """The directory of its own: what it changes (overlay: the upper), or all of it (plain). NotFound."""
        ...

    def notes(self, snapshot: SnapshotKey | ChainID) -> str:
        """Where the notes are by which its layer's tar can be written again, if any are. NotFound."""
        ...

    def lowers(self, snapshot: SnapshotKey | ChainID) -> list[str]:
        """The directories it is stacked on, topmost first: its parents' (overlay), or none's (plain).
        NotFound.
        """
        ...

    def change(self, snapshot: SnapshotKey | ChainID) -> AbstractContextManager[tuple[str, Sequence[str]]]:
        """What it changes on its parent, to be read only, as overlayfs has it: (upper directory, lower ones,
        topmost first). NotFound.
        """
        ...

    def reconcile(self) -> None:
        """After a crash: directories without a row go, and rows without a directory."""
        ...
