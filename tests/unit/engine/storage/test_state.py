import sqlite3
from pathlib import Path

import pytest
from tests.contracts.state_contract import StateContract, Thing

from skiff.engine.storage.state import CorruptState, MemoryState, SqliteState, StateStore


class TestSqliteState(StateContract):
    @pytest.fixture
    def state(self, tmp_path: Path) -> StateStore:
        return SqliteState(str(tmp_path / "state.db"))


class TestMemoryState(StateContract):
    @pytest.fixture
    def state(self) -> StateStore:
        return MemoryState()


def test_rows_survive_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    SqliteState(path).table("thing", Thing).put("1", Thing("a"))
    assert SqliteState(path).table("thing", Thing).get("1") == Thing("a")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database " * 1000)
    with pytest.raises(CorruptState, match="cannot be read"):
        SqliteState(str(path))


def test_a_future_version_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    state = SqliteState(path)
    state._db.execute("PRAGMA user_version=99")
    state.close()
    with pytest.raises(CorruptState, match="version 99"):
        SqliteState(path)


def test_a_row_of_another_shape_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    SqliteState(path).table("thing", int).put("1", 5)
    with pytest.raises(CorruptState, match="thing 1"):
        SqliteState(path).table("thing", Thing).get("1")


def _full(state: SqliteState) -> None:
    """Not a page more."""
    (pages,) = state._db.execute("PRAGMA page_count").fetchone()
    state._db.execute(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_has_room_for_some_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = SqliteState(str(tmp_path / "state.db"))
    reserve = tmp_path / "state.db-reserve"
    assert reserve.stat().st_blocks * 512 >= 1 << 18
    table = state.table("thing", Thing)
    table.put("1", Thing("a"))
    give_way = state._reserve.give_way

    def freed() -> bool:
        state._db.execute("PRAGMA max_page_count=100000")
        return give_way()

    monkeypatch.setattr(state._reserve, "give_way", freed)
    monkeypatch.setattr(state._reserve, "fill", lambda: None)
    _full(state)
    table.put("2", Thing("b" * 20_000))
    table.delete("1")
    assert [id for id, _ in table.all()] == ["2"]
    assert reserve.stat().st_size == 0
    monkeypatch.undo()
    _full(state)
    state._reserve.fill = lambda: None  # type: ignore[method-assign]
    with pytest.raises(sqlite3.OperationalError, match="full"):  # it has given way already
        table.put("3", Thing("c" * 20_000))
    with pytest.raises(sqlite3.OperationalError, match="full"), state.transaction():
        table.put("3", Thing("c" * 20_000))
    assert [id for id, _ in table.all()] == ["2"]
    state.close()
    again = SqliteState(str(tmp_path / "state.db"))
    assert reserve.stat().st_size == 1 << 18
    again.close()
