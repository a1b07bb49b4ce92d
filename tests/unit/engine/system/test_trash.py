import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from tests.fakes.engine_containers import Room

from skiff.docker.filters import Filters
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.state import MemoryState
from skiff.engine.system.trash import Trash
from skiff.engine.volumes.kept import KeptVolumes
from skiff.engine.volumes.local import LocalDriver
from skiff.engine.volumes.service import Volumes
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.paths import DataPaths

HOUR = 3600 * 10**9


class House:
    """Containers on fakes and volumes on a directory, with one trash. `ahead` moves its clock."""

    def __init__(self, root: Path, room: Room, grace: timedelta = timedelta(hours=24)) -> None:
        self.room = room
        self.root = root
        self.bin = room.bin
        self.ahead = 0
        self.collected = 0
        driver = LocalDriver(DataPaths(str(root)))
        self.users: dict[str, list[str]] = {}
        self.volumes = Volumes(
            room.state,
            [driver],
            users=lambda name: self.users.get(name, []),
            publish=self.publish,
            bin=self.bin,
        )
        self.trash = Trash(
            self.bin,
            (room.containers.kept, KeptVolumes(self.bin, self.volumes, {"local": driver})),
            root=str(root),
            grace=grace,
            share=0.5,
            collect=self.collect,
            now_ns=self.now,
            quiet=0,
        )

    def now(self) -> int:
        return time.time_ns() + self.ahead

    def publish(self, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        """Nobody listens."""

    def collect(self) -> None:
        self.collected += 1

    async def volume(self, name: str, content: str = "") -> Path:
        made = await self.volumes.ensure(name)
        file = Path(made.mountpoint, "file")
        file.write_text(content)
        return file


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with Room(tmp_path, keeping=True) as room:
        yield House(tmp_path / "data", room)


async def test_a_removed_container_comes_back_with_its_files(house: House) -> None:
    id = await house.room.create("true", name="web")
    directory = Path(house.room.snapshots.directory(id))  # type: ignore[arg-type]
    (directory / "precious").write_text("data")
    await house.room.life.remove("web")
    with pytest.raises(NotFound):
        house.room.containers.records.find("web")
    [restored] = await house.trash.undo()
    assert (restored["Type"], restored["Name"]) == ("container", "web")
    assert house.room.containers.records.find("web").id == id
    assert (directory / "precious").read_text() == "data"
    assert len(house.bin) == 0


async def test_the_name_is_free_at_once_and_then_in_the_way(house: House) -> None:
    first = await house.room.create("true", name="web")
    await house.room.life.remove("web")
    await house.room.create("true", name="web")
    with pytest.raises(Conflict, match="skiff trash restore --name NEW"):
        await house.trash.undo()
    await house.trash.restore("web", "web-2")
    assert house.room.containers.records.find("web-2").id == first


async def test_what_rm_at_the_end_asked_to_lose_is_lost(house: House) -> None:
    id = await house.room.run("true", name="gone", host={"AutoRemove": True})
    await house.room.life.wait(id, "removed")
    assert len(house.bin) == 0
    assert list(house.room.snapshots.walk()) == []
    with pytest.raises(NotFound, match="nothing to undo"):
        await house.trash.undo()


async def test_a_removed_volume_comes_back(house: House) -> None:
    file = await house.volume("data", "precious")
    await house.volumes.remove("data")
    assert not file.exists()
    other = await house.volume("data", "new")
    assert other == file
    with pytest.raises(Conflict):
        await house.trash.undo()
    [restored] = await house.trash.restore("data", "old")
    assert restored["Name"] == "old"
    assert Path(house.volumes.inspect("old").mountpoint, "file").read_text() == "precious"
    assert file.read_text() == "new"


async def test_undo_takes_back_what_one_act_removed(house: House) -> None:
    for name in ("one", "two"):
        await house.volume(name)
    await house.volume("three")
    await house.volumes.remove("three")
    await house.volumes.prune(Filters({"all": ("true",)}))
    assert len(house.bin) == 3
    restored = await house.trash.undo()
    assert sorted(one["Name"] for one in restored) == ["one", "two"]
    assert [one["Name"] for one in await house.trash.undo()] == ["three"]


async def test_undo_several(house: House) -> None:
    for name in ("one", "two", "three"):
        await house.volume(name)
        await house.volumes.remove(name)
    assert [one["Name"] for one in await house.trash.undo(2)] == ["three", "two"]
    with pytest.raises(InvalidParameter):
        await house.trash.undo(0)


async def test_the_grace_ends(house: House) -> None:
    file = await house.volume("data", "x" * 100)
    id = await house.room.create("true")
    await house.volumes.remove("data")
    house.ahead = 23 * HOUR
    await house.room.life.remove(id)
    await house.trash.sweep()
    assert [entry["Name"] for entry in house.trash.list()][-1] == "data"
    assert house.trash.usage()["Size"] >= 100
    house.ahead = 25 * HOUR
    await house.trash.sweep()
    assert len(house.bin) == 0
    assert house.collected
    assert list(house.room.snapshots.walk()) == []
    assert list((house.root / "removed-volumes").iterdir()) == []
    assert not file.exists()


async def test_the_oldest_make_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        await house.volume(name, "x" * 1000)
        await house.volumes.remove(name)
    monkeypatch.setattr(house.trash, "_limit", lambda: 2500)
    await house.trash.sweep()
    assert [entry["Name"] for entry in house.trash.list()] == ["three", "two"]


async def test_empty_deletes_for_good(house: House) -> None:
    await house.volume("one", "x" * 1000)
    await house.volume("two")
    await house.volumes.remove("one")
    await house.volumes.remove("two")
    report = await house.trash.empty(["one"])
    assert report == {"Deleted": ["volume one"], "SpaceReclaimed": 1000}
    assert [entry["Name"] for entry in house.trash.list()] == ["two"]
    assert (await house.trash.empty())["Deleted"] == ["volume two"]


async def test_no_grace_no_trash(tmp_path: Path) -> None:
    async with Room(tmp_path, keeping=True) as room:
        house = House(tmp_path / "data", room, grace=timedelta(0))
        await house.volume("data")
        await house.volumes.remove("data")
        await room.life.remove(await room.create("true"))
        assert len(house.bin) == 0
        assert list(room.snapshots.walk()) == []


async def test_a_dry_run_removes_nothing(house: House) -> None:
    await house.volume("data", "x" * 10)
    id = await house.room.create("true")
    assert (await house.volumes.prune(Filters({"all": ("1",)}), dry_run=True)).volumes_deleted == ("data",)
    assert (await house.room.life.prune(Filters(), dry_run=True)).containers_deleted == (id,)
    assert len(house.bin) == 0
    assert house.volumes.inspect("data")
    assert id in house.room.containers.records


async def test_a_restored_container_brings_its_pruned_volumes(house: House) -> None:
    volumes = house.room.volumes
    id = await house.room.create("true", name="db", host={"Binds": ["data:/data"]})
    await house.room.life.remove(id)
    file = await house.volume("data", "rows")
    await house.volumes.remove("data")
    assert "data" in volumes.volumes  # the containers' own fake knows another one
    restored = await house.trash.restore("db")
    assert [one["Name"] for one in restored] == ["data", "db"]
    assert file.read_text() == "rows"


async def test_an_engine_that_was_killed_between(tmp_path: Path) -> None:
    """Entries of things that are still there are dropped, and what they lead to stays."""
    async with Room(tmp_path, keeping=True) as room:
        house = House(tmp_path / "data", room)
        id = await room.create("true", name="web")
        room.containers.kept.keep(room.record(id))
        await house.volume("data", "x")
        house.bin.keep("volume", "0123", "data", b'{"Name":"data","Driver":"local"}')
        next_bin = Bin(room.state)
        assert len(next_bin) == 2
        house.trash.settle()
        assert len(house.bin) == 0
        assert house.volumes.inspect("data")
        assert room.record(id)


def test_entries_outlive_the_engine() -> None:
    state = MemoryState()
    bin = Bin(state)
    with bin.act(), bin.act():
        one = bin.keep("volume", "k1", "one", b"{}")
        two = bin.keep("volume", "k2", "two", b"{}")
    three = bin.keep("volume", "k3", "one", b"{}")
    assert one.act == two.act != three.act
    again = Bin(state)
    assert [entry.id for entry in again] == [one.id, two.id, three.id]
    assert again.find("one").id == three.id
    assert again.find(one.id[:8]).id == one.id
    with pytest.raises(NotFound):
        again.find("nothing")
