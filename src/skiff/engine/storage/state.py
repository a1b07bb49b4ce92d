"""Records on disk: typed tables of msgspec structs. Knows no noun.

A row is one JSON document under an id. A write outside `transaction()` is a transaction of its own; all of
them survive a crash of the engine at once, and a power failure after at most a few seconds (WAL,
synchronous=NORMAL).
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from skiff.errors import NotFound, SkiffError

T = TypeVar("T")

Execute = Callable[..., sqlite3.Cursor]

SCHEMA_VERSION = 1
_RESERVED = 1 << 18  # bytes: some dozens of records
_AMPLE = 1 << 23  # bytes free on the disk, of which so many may be reserved


class CorruptState(SkiffError):
    """The state file cannot be read, or holds a row that is not what its table promises."""


class Table(Protocol[T]):
    def get(self, id: str) -> T: ...  # NotFound

    def put(self, id: str, record: T) -> None: ...

    def delete(self, id: str) -> None: ...  # nothing happens when there is none

    def all(self) -> Iterator[tuple[str, T]]: ...  # ordered by id; a copy: writing meanwhile is safe


class StateStore(Protocol):
    def table(self, kind: str, of: type[T]) -> Table[T]: ...

    def transaction(self) -> AbstractContextManager[None]:
        """All of it or nothing. An inner one belongs to the outer one."""
        ...


class SqliteState:
    """A StateStore in one file; ":memory:" for none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self._broken = False
        self._reserve = _Reserve("" if path == ":memory:" else f"{path}-reserve")
        if path != ":memory:":
            _keep_private(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._check()
        except sqlite3.DatabaseError as error:
            raise CorruptState(f"the state in {path} cannot be read: {error}") from error

    def _check(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise CorruptState(f"the state in {self._path} has version {version}: expected {SCHEMA_VERSION}")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise CorruptState(f"the state in {self._path} is damaged: {verdict}")

    def table(self, kind: str, of: type[T]) -> "SqliteTable[T]":
        if not kind.replace("_", "").isalnum():
            raise ValueError(f"invalid table name {kind!r}")
        with self._lock:
            self._db.execute(
                f'CREATE TABLE IF NOT EXISTS "{kind}" (id TEXT PRIMARY KEY, record BLOB NOT NULL)'
                " WITHOUT ROWID"
            )
        return SqliteTable(self._execute, self._lock, kind, of)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """With the lock held. On a full disk the reserve gives way: who wants to delete has to write, too."""
        inside = self._db.in_transaction
        self._reserve.fill()
        try:
            return self._db.execute(statement, values)
        except sqlite3.OperationalError as error:
            is_undone = self._db.in_transaction != inside
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or is_undone or not self._reserve.give_way():
                raise
        return self._db.execute(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
                self._broken = False
            self._depth += 1
            try:
                yield
            except BaseException:
                self._broken = True
                raise
            finally:
                self._depth -= 1
                # an error of an inner transaction undoes the outer one, even if someone caught it; of some
                # (a full disk) SQLite has undone it already
                if self._depth == 0 and (self._db.in_transaction or not self._broken):
                    self._execute("ROLLBACK" if self._broken else "COMMIT")

    def close(self) -> None:
        with self._lock:
            self._db.close()


class _Reserve:
    """A file that keeps room for some records on a disk that others fill. path: empty for none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_spent = True
        self.fill()

    def fill(self) -> None:
        """Unless it is full, or the disk is."""
        if not self._path or not self._is_spent:
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            room = os.fstatvfs(fd)
            if room.f_bavail * room.f_frsize > _AMPLE:
                os.posix_fallocate(fd, 0, _RESERVED)
                self._is_spent = False
        finally:
            os.close(fd)

    def give_way(self) -> bool:
        """Whether there is more room now."""
        if not self._path or self._is_spent:
            return False
        os.truncate(self._path, 0)
        self._is_spent = True
        return True


def _keep_private(path: str) -> None:
    """Environments of containers stand in it. SQLite gives its other files the mode of this one."""
    for name in (path, f"{path}-wal", f"{path}-shm"):
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if name == path else 0)
        try:
            fd = os.open(name, flags, 0o600)
        except FileNotFoundError:
            continue
        os.fchmod(fd, 0o600)
        os.close(fd)


class SqliteTable(Generic[T]):
    def __init__(self, execute: Execute, lock: threading.RLock, kind: str, of: type[T]) -> None:
        self._kind = kind
        self._lock = lock
        self._execute = execute
        self._encode = msgspec.json.Encoder().encode
        self._decoder = msgspec.json.Decoder(of)
        self._get = f'SELECT record FROM "{kind}" WHERE id=?'
        self._put = f'INSERT INTO "{kind}" VALUES (?,?) ON CONFLICT (id) DO UPDATE SET record=excluded.record'
        self._delete = f'DELETE FROM "{kind}" WHERE id=?'
        self._all = f'SELECT id, record FROM "{kind}" ORDER BY id'

    def get(self, id: str) -> T:
        with self._lock:
            row = self._execute(self._get, (id,)).fetchone()
        if row is None:
            raise NotFound(f"no such {self._kind}: {id}")
        return self._decode(id, row[0])

    def put(self, id: str, record: T) -> None:
        data = self._encode(record)
        with self._lock:
            self._execute(self._put, (id, data))

    def delete(self, id: str) -> None:
        with self._lock:
            self._execute(self._delete, (id,))

    def all(self) -> Iterator[tuple[str, T]]:
        with self._lock:
            rows = self._execute(self._all).fetchall()
        for id, data in rows:
            yield id, self._decode(id, data)

    def _decode(self, id: str, data: bytes) -> T:
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise CorruptState(f"the {self._kind} {id} in the state is not readable: {error}") from error


class MemoryState:
    """A StateStore that forgets; for tests and for an engine that shall leave no trace."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables: dict[str, dict[str, Any]] = {}
        self._depth = 0
        self._broken = False
        self._before: dict[str, dict[str, Any]] = {}

    def table(self, kind: str, of: type[T]) -> "MemoryTable[T]":
        with self._lock:
            self._tables.setdefault(kind, {})
        return MemoryTable(self._tables, self._lock, kind)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._before = {kind: dict(rows) for kind, rows in self._tables.items()}
                self._broken = False
            self._depth += 1
            try:
                yield
            except BaseException:
                self._broken = True
                raise
            finally:
                self._depth -= 1
                if self._depth == 0 and self._broken:
                    self._tables.update(self._before)

    def close(self) -> None:
        """Nothing is held."""


class MemoryTable(Generic[T]):
    def __init__(self, tables: dict[str, dict[str, Any]], lock: threading.RLock, kind: str) -> None:
        self._tables = tables
        self._lock = lock
        self._kind = kind

    def get(self, id: str) -> T:
        try:
            record: T = self._tables[self._kind][id]
        except KeyError:
            raise NotFound(f"no such {self._kind}: {id}") from None
        return record

    def put(self, id: str, record: T) -> None:
        with self._lock:
            self._tables[self._kind][id] = record

    def delete(self, id: str) -> None:
        with self._lock:
            self._tables[self._kind].pop(id, None)

    def all(self) -> Iterator[tuple[str, T]]:
        with self._lock:
            rows = sorted(self._tables[self._kind].items())
        yield from rows
