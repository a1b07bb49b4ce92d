from skiff.engine.networks.egress_log import ALLOWED, MOST_ENTRIES, REFUSED, EgressLogs
from skiff.engine.storage.state import SqliteState


async def test_one_entry_for_each_destination_and_the_next_engine_has_them() -> None:
    state = SqliteState(":memory:")
    logs = EgressLogs(state)
    logs.add("box", REFUSED, "bad.test", 20)
    logs.add("box", ALLOWED, "good.test 192.0.2.7", 30)
    logs.add("box", REFUSED, "bad.test", 40, 3)
    logs.save()
    (good, bad) = EgressLogs(state).entries("box")
    assert (good.verdict, good.destination, good.count) == (ALLOWED, "good.test 192.0.2.7", 1)
    assert (bad.count, bad.first_ns, bad.last_ns) == (4, 20, 40)
    logs.forget("box")
    assert logs.entries("box") == EgressLogs(state).entries("box") == []


async def test_no_container_fills_the_memory() -> None:
    logs = EgressLogs(SqliteState(":memory:"))
    for number in range(MOST_ENTRIES + 10):
        logs.add("box", REFUSED, f"{number}.test" + "x" * 1000, number)
    entries = logs.entries("box")
    assert len(entries) == MOST_ENTRIES
    assert entries[0].destination.startswith("10.test")
    assert len(entries[0].destination) == 300
