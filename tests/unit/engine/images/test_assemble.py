"""Layers that are stored and extracted while they are written."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.engine.images.assemble import Assembler
from skiff.engine.images.names import Names
from skiff.engine.images.unpack import REPORT_SECONDS, Unpacker
from skiff.engine.storage import tarwriter
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.state import MemoryState
from skiff.oci import digest as digests
from skiff.oci.platform import Platform

FILE = tarwriter.header(b"0", b"a", mode=0o644, size=5) + b"hello" + bytes(507)


class House:
    def __init__(self, root: Path) -> None:
        state = MemoryState()
        self.content = FileContent(str(root / "content"))
        self.snapshots = OverlaySnapshots(str(root / "snapshots"), state)
        self.layers = Layers(self.snapshots)
        self.unpacker = Unpacker(self.layers, self.snapshots)
        platform = Platform("amd64", "linux")
        self.assembler = Assembler(Names(state), self.content, Leases(state), self.unpacker, platform)

    def close(self) -> None:
        self.unpacker.close()
        self.layers.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


async def test_a_layer_that_takes_its_time(house: House) -> None:
    def written() -> Iterator[bytes]:
        yield FILE[:512]
        time.sleep(2 * REPORT_SECONDS)
        yield FILE[512:] + tarwriter.END

    kept: list[str] = []
    row = await house.assembler.made(written(), (), kept.append)
    whole = FILE + tarwriter.END
    assert [str(row.diff_id), str(row.blob), *kept] == [str(digests.of(whole))] * 3
    assert row.size == 5
    assert Path(house.snapshots.directory(row.chain), "a").read_text() == "hello"
    with house.content.open(digests.of(whole)) as blob:
        assert blob.read() == whole


async def test_a_layer_that_needs_its_parents_is_read_again(house: House) -> None:
    def tar(*entries: bytes) -> Iterator[bytes]:
        yield from (*entries, tarwriter.END)

    below = await house.assembler.made(tar(tarwriter.header(b"2", b"l", mode=0o777, link=b"d")), (), print)
    through = tarwriter.header(b"1", b"m", mode=0o644, link=b"l")
    row = await house.assembler.made(tar(through), [below.diff_id], print)
    assert str(row.diff_id) == digests.of(through + tarwriter.END)


async def test_a_writer_that_fails_leaves_nothing(house: House) -> None:
    def failing() -> Iterator[bytes]:
        yield FILE
        raise OSError(5, "the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await house.assembler.made(failing(), (), print)
    await asyncio.sleep(0.1)
    house.unpacker.close()
    assert not list(house.snapshots.walk())
    assert not list(house.content.walk())
