"""What containers were allowed and refused on their way out: an entry for each destination, with a count.

Kept in memory, and stored at once, but at most once a second: a container may ask as often as it likes.
"""

import asyncio
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.storage.state import StateStore

ALLOWED: Final = "allowed"
REFUSED: Final = "refused"
MOST_ENTRIES: Final = 500  # for each container; the oldest go
LONGEST: Final = 300  # characters of a destination: names are the container's to choose
SAVE_SECONDS: Final = 1.0


class Entry(Struct, frozen=True):
    """verdict: ALLOWED or REFUSED. destination: a name with its address, a name, or an address with its port.

    first_ns, last_ns: Unix nanoseconds.
    """

    verdict: str
    destination: str
    count: int
    first_ns: int
    last_ns: int


class EgressLog(Struct, frozen=True):
    owner: str
    entries: tuple[Entry, ...] = ()


class EgressLogs:
    def __init__(self, state: StateStore) -> None:
        self._table = state.table("egress", EgressLog)
        self._known = {
            owner: {(e.verdict, e.destination): e for e in stored.entries}
            for owner, stored in self._table.all()
        }
        self._changed: set[str] = set()
        self._resting: asyncio.TimerHandle | None = None

    def add(self, owner: str, verdict: str, destination: str, when_ns: int, count: int = 1) -> None:
        entries = self._known.setdefault(owner, {})
        key = (verdict, destination[:LONGEST])
        entry = entries.pop(key, Entry(*key, 0, when_ns, when_ns))
        entries[key] = replace(entry, count=entry.count + count, last_ns=max(entry.last_ns, when_ns))
        while len(entries) > MOST_ENTRIES:
            del entries[next(iter(entries))]
        self._changed.add(owner)
        if self._resting is None:
            self.save()
            self._resting = asyncio.get_running_loop().call_later(SAVE_SECONDS, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self.save()

    def entries(self, owner: str) -> list[Entry]:
        """The latest last."""
        return sorted(self._known.get(owner, {}).values(), key=lambda entry: entry.last_ns)

    def forget(self, owner: str) -> None:
        self._changed.discard(owner)
        if self._known.pop(owner, None) is not None:
            self._table.delete(owner)

    def save(self) -> None:
        """Write what has changed."""
        for owner in self._changed:
            self._table.put(owner, EgressLog(owner, tuple(self._known[owner].values())))
        self._changed.clear()
