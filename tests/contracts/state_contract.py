"""What every StateStore does. Subclass and give a `state` fixture."""

import pytest
from msgspec import Struct

from skiff.engine.storage.state import StateStore
from skiff.errors import NotFound


class Thing(Struct, frozen=True):
    name: str
    size: int = 0


class StateContract:
    def test_put_get_delete(self, state: StateStore) -> None:
        things = state.table("thing", Thing)
        things.put("1", Thing("a"))
        things.put("1", Thing("b", 2))
        assert things.get("1") == Thing("b", 2)
        things.delete("1")
        things.delete("1")
        with pytest.raises(NotFound):
            things.get("1")

    def test_all_is_ordered_and_a_copy(self, state: StateStore) -> None:
        things = state.table("thing", Thing)
        for id in ("b", "a", "c"):
            things.put(id, Thing(id))
        seen = []
        for id, thing in things.all():
            seen.append((id, thing.name))
            things.delete("c")
        assert seen == [("a", "a"), ("b", "b"), ("c", "c")]

    def test_tables_are_apart(self, state: StateStore) -> None:
        state.table("one", Thing).put("1", Thing("a"))
        assert list(state.table("two", Thing).all()) == []
        assert state.table("one", Thing).get("1") == Thing("a")

    def test_a_transaction_is_all_or_nothing(self, state: StateStore) -> None:
        things = state.table("thing", Thing)
        things.put("0", Thing("before"))
        with pytest.raises(ZeroDivisionError), state.transaction():
            things.put("0", Thing("after"))
            things.put("1", Thing("new"))
            raise ZeroDivisionError
        assert list(things.all()) == [("0", Thing("before"))]
        with state.transaction():
            things.put("1", Thing("new"))
            things.delete("0")
        assert list(things.all()) == [("1", Thing("new"))]

    def test_an_inner_failure_undoes_the_outer_transaction(self, state: StateStore) -> None:
        things = state.table("thing", Thing)
        with state.transaction():
            things.put("1", Thing("a"))
            with pytest.raises(ZeroDivisionError), state.transaction():
                things.put("2", Thing("b"))
                raise ZeroDivisionError
        assert list(things.all()) == []
