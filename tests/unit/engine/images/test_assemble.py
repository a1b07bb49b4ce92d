"""Layers on their way into an image: a collection meanwhile takes none of them."""

import asyncio
from pathlib import Path

import pytest
from tests.unit.engine.storage.archives import entry, tar

from skiff.engine.images.assemble import Assembler
from skiff.engine.images.names import LayerRow, Names
from skiff.engine.images.rebuilding import is_noted
from skiff.engine.images.unpack import Unpacker
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.gc import Collector
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.state import MemoryState
from skiff.oci.digest import DiffID, of
from skiff.oci.image import ImageConfig, RootFS
from skiff.oci.platform import Platform

pytestmark = pytest.mark.root
BOTTOM, TOP = tar(entry("a", data=b"a")), tar(entry("b", data=b"b"))


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("keeps_blob", [True, False])
def test_what_keeps_its_blob_gets_no_notes(tmp_path: Path, is_told: bool, keeps_blob: bool) -> None:
    state = MemoryState()
    leases, content = Leases(state), FileContent(f"{tmp_path}/content")
    snapshots = OverlaySnapshots(f"{tmp_path}/snapshots", state)
    layers = Layers(snapshots, noting=True)
    unpacker = Unpacker(layers, snapshots)
    platform = Platform(architecture="amd64", os="linux")
    assembler = Assembler(Names(state), content, leases, unpacker, platform)
    ingest = content.ingest("bottom")
    ingest.write(BOTTOM)
    blob = ingest.commit()
    diff_id = DiffID(of(BOTTOM)) if is_told else None
    try:
        with leases.hold() as lease:
            layer = assembler.layer(blob, (), diff_id, lease=lease, keeps_blob=keeps_blob)
            assert is_noted(asyncio.run(layer).chain, snapshots) != keeps_blob
    finally:
        unpacker.close()
        layers.close()


@pytest.mark.parametrize("is_told", [True, False])
def test_what_is_committed_stays_until_the_image_stands_on_it(tmp_path: Path, is_told: bool) -> None:
    state = MemoryState()
    names, leases, content = Names(state), Leases(state), FileContent(f"{tmp_path}/content")
    snapshots = OverlaySnapshots(f"{tmp_path}/snapshots", state)
    layers = Layers(snapshots)
    unpacker = Unpacker(layers, snapshots)
    assembler = Assembler(names, content, leases, unpacker, Platform(architecture="amd64", os="linux"))

    def roots() -> list[str]:
        return [part for row in names.images() for part in (row.id, *row.blobs, row.chain or "")]

    collector = Collector(content, snapshots, leases, roots, dict)

    async def story() -> None:
        with leases.hold() as lease:
            rows: list[LayerRow] = []
            for data in (BOTTOM, TOP):
                ingest = content.ingest(of(data))
                ingest.write(data)
                lease.add(of(data))
                below = [row.diff_id for row in rows]
                diff_id = DiffID(of(data)) if is_told else None
                rows.append(await assembler.layer(ingest.commit(), below, diff_id, lease=lease))
                assert collector.collect().snapshots == ()
            config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS())
            id = await assembler.image(config, rows)
        assert collector.collect().snapshots == ()
        assert collector.collect().blobs == ()
        assert names.image(id).layers == tuple(rows)
        assert Path(snapshots.directory(rows[1].chain), "b").read_bytes() == b"b"

    try:
        asyncio.run(story())
    finally:
        unpacker.close()
        layers.close()
