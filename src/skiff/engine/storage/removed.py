"""What was removed and is kept for a while: one table for all nouns. Knows no noun and no grace.

A noun that removes a thing hands over its record and leaves the files where nothing else needs the place
(`Removed.key` finds them again). The rule: the entry is stored before anything of the thing goes, so a crash
leaves an entry too many, never one too few; `Kept.settle` of each noun drops those at boot.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from msgspec import Raw, Struct
from msgspec.structs import replace

from skiff.engine.storage.state import StateStore
from skiff.errors import NotFound


class Removed(Struct, frozen=True, kw_only=True):
    """One thing, as stored.

    id: 12 hex. act: what was removed together has the same one. key: the noun's own name for the files.
    record: the noun's row as JSON. needs: (noun, key) of what it does not work without. bytes: what its files
    take on disk; -1 as long as nobody has measured them.
    """

    id: str
    act: str
    noun: str
    key: str
    name: str
    at_ns: int  # since the epoch
    record: Raw
    needs: tuple[tuple[str, str], ...] = ()
    bytes: int = -1


class Kept(Protocol):
    """What each noun does with what it removed."""

    noun: str

    async def restore(self, removed: Removed, name: str) -> str:
        """Bring it back, under another name if one is given; its id or name. Conflict: the name is taken."""
        ...

    async def expunge(self, removed: Removed) -> None:
        """Delete what is left of it. What is gone already is no error."""
        ...

    def size(self, removed: Removed) -> int:
        """Bytes on disk. Slow: called in a thread."""
        ...

    def settle(self) -> None:
        """At boot: complete or undo removals that a crash cut short."""
        ...


_act: ContextVar[str] = ContextVar("act", default="")


class Bin:
    """All entries, oldest first. `keeping` False: removals are for good."""

    def __init__(self, state: StateStore, *, keeping: bool = True) -> None:
        self.keeping = keeping
        self.changed: Callable[[], None] = lambda: None
        self._table = state.table("removed", Removed)
        self._entries = dict(sorted(self._table.all(), key=lambda pair: pair[1].at_ns))

    @contextmanager
    def act(self) -> Iterator[None]:
        """What is removed inside belongs together; an inner act is part of the outer one."""
        if _act.get():
            yield
            return
        token = _act.set(secrets.token_hex(6))
        try:
            yield
        finally:
            _act.reset(token)

    def keep(
        self, noun: str, key: str, name: str, record: bytes, needs: tuple[tuple[str, str], ...] = ()
    ) -> Removed:
        entry = Removed(
            id=secrets.token_hex(6),
            act=_act.get() or secrets.token_hex(6),
            noun=noun,
            key=key,
            name=name,
            at_ns=time.time_ns(),
            record=Raw(record),
            needs=needs,
        )
        self._table.put(entry.id, entry)
        self._entries[entry.id] = entry
        self.changed()
        return entry

    def __iter__(self) -> Iterator[Removed]:
        """A copy: writing meanwhile is safe."""
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: str) -> bool:
        return id in self._entries

    def of(self, noun: str) -> list[Removed]:
        return [entry for entry in list(self._entries.values()) if entry.noun == noun]

    def latest(self, noun: str, key: str) -> Removed | None:
        """The entry of that key, or, of a noun whose keys are made up, of that name."""
        return next((one for one in reversed(self.of(noun)) if key in (one.key, one.name)), None)

    def find(self, text: str) -> Removed:
        """By id, by name or key (the latest of them), by a beginning of the id or the key. NotFound."""
        if text in self._entries:
            return self._entries[text]
        newest = list(reversed(self._entries.values()))
        named = [one for one in newest if text in (one.name, one.key)]
        begun = [one for one in newest if text and (one.id.startswith(text) or one.key.startswith(text))]
        if named or begun:
            return (named or begun)[0]
        raise NotFound(f"nothing in the trash is called {text}")

    def measured(self, id: str, size: int) -> None:
        if id in self._entries:
            self._entries[id] = replace(self._entries[id], bytes=size)
            self._table.put(id, self._entries[id])

    def forget(self, id: str) -> None:
        if self._entries.pop(id, None) is not None:
            self._table.delete(id)
