import pytest

from skiff.engine.storage.leases import Leases
from skiff.engine.storage.state import MemoryState


def test_a_lease_ends_with_its_block_however_it_ends() -> None:
    leases = Leases(MemoryState())
    with pytest.raises(ZeroDivisionError), leases.hold("a") as lease:
        lease.add("b", "c", "b")
        assert leases.held() == {"a", "b", "c"}
        raise ZeroDivisionError
    assert leases.held() == frozenset()


def test_a_lease_outlives_the_engine_until_the_next_boot() -> None:
    state = MemoryState()
    dying = Leases(state).hold("a")
    dying.__enter__()
    leases = Leases(state)
    assert leases.held() == {"a"}
    assert leases.release_all() == {"a"}
    assert leases.held() == frozenset()
