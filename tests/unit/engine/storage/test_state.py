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
