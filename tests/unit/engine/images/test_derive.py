"""An image made of another one and a directory of changes."""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from skiff.engine.images.assemble import Assembler
from skiff.engine.images.derive import Deriver
from skiff.engine.images.names import LayerRow, Names
from skiff.engine.images.rebuilding import rebuilt
from skiff.engine.images.unpack import Unpacker
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.replica import Replica
from skiff.engine.storage.snapshots import SnapshotKey
from skiff.engine.storage.state import MemoryState
from skiff.oci.digest import ImageID
from skiff.oci.image import ImageConfig, RootFS, RunConfig
from skiff.oci.platform import Platform


class House:
    def __init__(self, root: Path) -> None:
        state = MemoryState()
        self.content = FileContent(str(root / "content"))
        self.snapshots = OverlaySnapshots(str(root / "snapshots"), state)
        self.layers = Layers(self.snapshots)
        self.unpacker = Unpacker(self.layers, self.snapshots)
        self.names = Names(state)
        platform = Platform("amd64", "linux")
        leases = Leases(state)
        assembler = Assembler(self.names, self.content, leases, self.unpacker, platform)
        self.events: list[tuple[str, str]] = []
        self.deriver = Deriver(self.names, self.content, self.snapshots, leases, assembler, self._publish)
        self.assembler = assembler
        self.upper = root / "upper"
        self.upper.mkdir()

    async def empty_image(self) -> ImageID:
        return await self.assembler.image(ImageConfig(architecture="amd64", os="linux", rootfs=RootFS()), ())

    def top(self, id: ImageID) -> LayerRow:
        return self.names.image(id).layers[-1]

    def close(self) -> None:
        self.unpacker.close()
        self.layers.close()

    def _publish(self, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        self.events.append((action, actor))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


async def test_the_layer_is_a_copy_and_its_tar_can_be_made_again(house: House) -> None:
    (house.upper / "d").mkdir()
    (house.upper / "d/a").write_text("hello")
    os.link(house.upper / "d/a", house.upper / "d/b")
    (house.upper / "l").symlink_to("d/a")
    (house.upper / "ours").write_text("no change of the user's")
    parent = await house.empty_image()
    id = await house.deriver.derive(parent, str(house.upper), RunConfig(), without={"/ours"})
    row = house.top(id)
    (house.upper / "d/a").write_text("changed since")
    layer = Path(house.snapshots.directory(row.chain))
    assert {str(path.relative_to(layer)) for path in layer.rglob("*")} == {"d", "d/a", "d/b", "l"}
    assert (layer / "d/a").read_text() == "hello"
    assert row.size == len("hello") + len("d/a")
    assert row.blob is None
    assert b"".join(rebuilt(row, house.snapshots))  # it checks the digest itself
    assert house.events == [("create", id)]


async def test_the_same_changes_are_one_layer(house: House) -> None:
    (house.upper / "a").write_text("hello")
    parent = await house.empty_image()
    first = await house.deriver.derive(parent, str(house.upper), RunConfig())
    second = await house.deriver.derive(parent, str(house.upper), RunConfig())
    assert house.top(first) == house.top(second)
    assert [info.id for info in house.snapshots.walk()] == [house.top(first).chain]


async def test_no_change_is_no_layer(house: House) -> None:
    (house.upper / "ours").mkdir()
    parent = await house.empty_image()
    id = await house.deriver.derive(parent, str(house.upper), RunConfig(), without={"/ours"})
    assert house.names.image(id).layers == ()
    assert not list(house.snapshots.walk())


async def test_a_copy_that_fails_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (house.upper / "a").write_text("hello")
    parent = await house.empty_image()
    monkeypatch.setattr(Replica, "small", full)
    with pytest.raises(OSError, match="No space"):
        await house.deriver.derive(parent, str(house.upper), RunConfig())
    assert not list(house.snapshots.walk())
    assert [row.id for row in house.names.images()] == [parent]


async def test_a_copy_that_fails_on_a_full_disk_gives_its_room_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (house.upper / "a").write_text("hello")
    (house.upper / "b").symlink_to("a")
    parent = await house.empty_image()
    monkeypatch.setattr(Replica, "symlink", full)
    monkeypatch.setattr(house.snapshots, "remove", full)  # it has a record to write
    with pytest.raises(OSError, match="No space"):
        await house.deriver.derive(parent, str(house.upper), RunConfig())
    (draft,) = house.snapshots.walk()
    assert not os.path.exists(house.snapshots.directory(SnapshotKey(draft.id)))
