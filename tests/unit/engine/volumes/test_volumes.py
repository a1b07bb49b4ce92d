import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from skiff.docker.filters import Filters
from skiff.docker.volume import VolumeCreate
from skiff.engine.storage.state import MemoryState
from skiff.engine.volumes.local import LocalDriver
from skiff.engine.volumes.service import ANONYMOUS, Volumes
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.paths import DataPaths


class House:
    """A Volumes on a directory, with users to be set and what it told."""

    def __init__(self, root: Path) -> None:
        self.users: dict[str, list[str]] = {}
        self.told: list[tuple[str, str]] = []
        self.state = MemoryState()
        self.root = root
        self.volumes = self.boot()

    def boot(self) -> Volumes:
        return Volumes(
            self.state,
            [LocalDriver(DataPaths(str(self.root)))],
            users=lambda name: self.users.get(name, []),
            publish=self.publish,
        )

    def publish(self, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        self.told.append((action, actor))

    def names(self, **filters: tuple[str, ...]) -> list[str]:
        return [volume.name for volume in self.volumes.list(Filters(dict(filters))).volumes]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_a_volume_is_a_directory(house: House) -> None:
    made = await house.volumes.create(VolumeCreate(name="data", labels={"a": "b"}))
    assert made.mountpoint == f"{house.root}/volumes/data/_data"
    assert os.path.isdir(made.mountpoint)
    assert made.labels == {"a": "b"}
    assert house.told == [("create", "data")]
    assert house.boot().inspect("data") == made


async def test_the_same_name_is_the_same_volume(house: House) -> None:
    first = await house.volumes.ensure("data", labels={"a": "b"})
    assert await house.volumes.ensure("data") == first
    assert await house.volumes.ensure("data", driver="local") == first


async def test_without_a_name_it_is_anonymous(house: House) -> None:
    made = await house.volumes.create(VolumeCreate())
    assert len(made.name) == 64
    assert made.labels == {ANONYMOUS: ""}


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (VolumeCreate(name="a"), "create a: volume name is too short"),
        (VolumeCreate(name="a b"), 'create a b: "a b" includes invalid characters for a local volume name'),
        (VolumeCreate(name="../x"), "includes invalid characters"),
        (VolumeCreate(name="vv", driver_opts={"foo": "1"}), 'create vv: invalid option: "foo"'),
        (VolumeCreate(name="vv", driver_opts={"type": "tmpfs"}), 'missing required option: "device"'),
        (VolumeCreate(name="vv", driver_opts={"o": "bind"}), 'missing required option: "device"'),
        (VolumeCreate(name="vv", driver_opts={"size": "1k"}), "expected at least 1048576"),
    ],
)
async def test_what_is_refused(wish: VolumeCreate, says: str, house: House) -> None:
    with pytest.raises(InvalidParameter) as refused:
        await house.volumes.create(wish)
    assert says in str(refused.value)
    assert house.names() == []


async def test_unknown_drivers_and_volumes(house: House) -> None:
    with pytest.raises(
        NotFound, match='create vv: error looking up volume plugin foo: plugin "foo" not found'
    ):
        await house.volumes.create(VolumeCreate(name="vv", driver="foo"))
    await house.volumes.create(VolumeCreate(name="there"))
    with pytest.raises(NotFound, match='plugin "foo" not found'):
        await house.volumes.create(VolumeCreate(name="there", driver="foo"))
    with pytest.raises(NotFound, match="get nope: no such volume"):
        house.volumes.inspect("nope")
    with pytest.raises(NotFound):
        await house.volumes.remove("nope")
    await house.volumes.remove("nope", force=True)


async def test_a_volume_in_use_stays(house: House) -> None:
    await house.volumes.ensure("data")
    house.users["data"] = ["abc", "def"]
    with pytest.raises(Conflict, match=r"remove data: volume is in use - \[abc, def\]"):
        await house.volumes.remove("data")
    house.users.clear()
    await house.volumes.remove("data")
    assert not os.path.exists(f"{house.root}/volumes/data")
    assert house.names() == []
    assert house.boot().list(Filters()).volumes == ()


async def test_list_filters(house: House) -> None:
    await house.volumes.ensure("data", labels={"a": "b"})
    await house.volumes.ensure("other")
    house.users["data"] = ["abc"]
    assert house.names(name=("dat",)) == ["data"]
    assert house.names(name=("^o",)) == ["other"]
    assert house.names(name=("[",)) == []
    assert house.names(label=("a=b",)) == ["data"]
    assert house.names(label=("a=c",)) == []
    assert house.names(dangling=("true",)) == ["other"]
    assert house.names(dangling=("false",)) == ["data"]
    assert house.names(driver=("local",)) == ["data", "other"]


async def test_prune_takes_unused_anonymous_ones(house: House) -> None:
    await house.volumes.ensure("named")
    nameless = await house.volumes.ensure()
    used = await house.volumes.ensure()
    house.users[used.name] = ["abc"]
    Path(nameless.mountpoint, "file").write_bytes(b"12345")
    report = await house.volumes.prune(Filters())
    assert report.volumes_deleted == (nameless.name,)
    assert report.space_reclaimed == 5
    assert (await house.volumes.prune(Filters({"all": ("true",)}))).volumes_deleted == ("named",)
    assert house.names() == [used.name]


async def test_first_use_copies_what_the_image_has(house: House, tmp_path: Path) -> None:
    source = tmp_path / "image"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(b"x")
    (source / "sub" / "file").chmod(0o640)
    (source / "link").symlink_to("sub/file")
    os.mkfifo(source / "fifo")
    source.chmod(0o711)
    made = await house.volumes.ensure("data")
    await house.volumes.fill("data", str(source))
    target = Path(made.mountpoint)
    assert (target / "sub" / "file").stat().st_mode & 0o777 == 0o640
    assert os.readlink(target / "link") == "sub/file"
    assert target.stat().st_mode & 0o777 == 0o711
    (source / "late").write_bytes(b"")
    await house.volumes.fill("data", str(source))
    assert not (target / "late").exists()


async def test_usage_counts_bytes_and_users(house: House) -> None:
    made = await house.volumes.ensure("data")
    Path(made.mountpoint, "one").write_bytes(b"123")
    os.link(Path(made.mountpoint, "one"), Path(made.mountpoint, "two"))
    house.users["data"] = ["abc"]
    (measured,) = house.volumes.usage()
    assert measured.usage_data
    assert (measured.usage_data.size, measured.usage_data.ref_count) == (3, 1)


@pytest.mark.root
async def test_a_mount_is_made_for_the_first_user_and_undone_after_the_last(
    house: House, tmp_path: Path
) -> None:
    wish = VolumeCreate(name="ram", driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"})
    made = await house.volumes.create(wish)
    assert not os.path.ismount(made.mountpoint)
    assert await house.volumes.open("ram", "one") == made.mountpoint
    await house.volumes.open("ram", "two")
    assert os.path.ismount(made.mountpoint)
    await house.volumes.close("ram", "one")
    assert os.path.ismount(made.mountpoint)
    await house.volumes.close("ram", "two")
    assert not os.path.ismount(made.mountpoint)
    await house.volumes.remove("ram")


@pytest.mark.root
async def test_a_bind_with_ro_is_read_only(house: House, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious").write_bytes(b"x")
    options = {"type": "none", "device": str(source), "o": "bind,ro"}
    made = await house.volumes.create(VolumeCreate(name="bound", driver_opts=options))
    await house.volumes.open("bound", "one")
    try:
        with pytest.raises(OSError, match="Read-only"):
            Path(made.mountpoint, "x").write_bytes(b"")
    finally:
        await house.volumes.close("bound", "one")
    await house.volumes.open("bound", "one")
    await house.volumes.remove("bound")
    assert (source / "precious").exists()
    assert not os.path.exists(made.mountpoint)
