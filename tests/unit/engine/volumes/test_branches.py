"""Branches of volumes, and what a crash leaves of them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from skiff.docker.volume import VolumeCreate
from skiff.engine.storage.state import MemoryState
from skiff.engine.volumes import branches
from skiff.engine.volumes.branches import VolumeBranches
from skiff.engine.volumes.local import LocalDriver
from skiff.engine.volumes.service import Volumes
from skiff.paths import DataPaths


class Killed(BaseException):
    """The engine ends here: nothing more is done by it."""


@asynccontextmanager
async def _still(name: str) -> AsyncIterator[None]:
    yield


class Place:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = MemoryState()

    def boot(self) -> VolumeBranches:
        driver = LocalDriver(DataPaths(str(self.root)))
        self.volumes = Volumes(self.state, [driver], users=lambda name: [], publish=lambda *told: None)
        found = VolumeBranches(self.volumes, still=_still, running=lambda name: [])
        found.recover()
        return found

    async def volume(self) -> Path:
        made = await self.volumes.create(VolumeCreate(name="data"))
        Path(made.mountpoint, "file").write_text("old")
        return Path(made.mountpoint)


async def test_a_rollback_that_is_cut_short_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    found = place.boot()
    data = await place.volume()
    await found.snapshot("data", "first")
    (data / "file").write_text("new")
    renames: list[str] = []
    rename = os.rename

    def once(source: str, target: str) -> None:
        if renames:
            raise Killed
        renames.append(source)
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", once)
        with pytest.raises(Killed):
            await found.rollback("data", "first")
    assert not data.exists()
    again = place.boot()
    assert (data / "file").read_text() == "old"
    assert again.list("data") == ["before-first", "first"]
    assert (data.parent / "snapshots/before-first/file").read_text() == "new"
    assert sorted(os.listdir(data.parent)) == ["_data", "snapshots"]


async def test_copies_that_were_cut_short_go(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.boot()
    data = await place.volume()
    for name in (f"{branches.DRAFT}12", "_data.new"):
        (data.parent / name).mkdir()
        (data.parent / name / "half").write_text("x")
    place.boot()
    assert os.listdir(data.parent) == ["_data"]
    assert (data / "file").read_text() == "old"


async def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    found = place.boot()
    data = await place.volume()
    await found.snapshot("data", "first")

    def full(source: str, target: str) -> None:
        os.mkdir(target)
        Path(target, "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(branches, "copy_tree", full)
    for act in (
        found.rollback("data", "first"),
        found.snapshot("data", "second"),
        found.clone("data", "copy"),
    ):
        with pytest.raises(OSError, match="No space left"):
            await act
    assert sorted(os.listdir(data.parent)) == ["_data", "snapshots"]
    assert os.listdir(data.parent.parent) == ["data"]
    assert (data / "file").read_text() == "old"
