"""Images whose layers give their compressed blobs up: the tar is written again, to the byte."""

import asyncio
import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.storage.archives import DIRECTORY, LINK, SYMLINK, entry, tar

from skiff.engine.images import slimming
from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.images.rebuilding import is_noted, rebuilt
from skiff.engine.images.slimming import Slimmer
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import MemoryState
from skiff.errors import DigestMismatch
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID, of

pytestmark = pytest.mark.root


class World:
    def __init__(self, root: Path) -> None:
        self.state = MemoryState()
        self.content = FileContent(f"{root}/content")
        self.snapshots = OverlaySnapshots(f"{root}/snapshots", self.state)
        self.layers = Layers(self.snapshots, noting=True)
        self.names = Names(self.state)
        self.leases = Leases(self.state)
        self.needed: set[str] = set()
        self.slimmer = Slimmer(
            self.names,
            self.content,
            self.snapshots,
            Needs(self.names, self.content, self.leases, list, lambda: self.needed),
        )

    def add(self, data: bytes, parent: ChainID | None = None) -> LayerRow:
        """A layer, extracted, its compressed blob in the store."""
        packed = gzip.compress(data)
        ingest = self.content.ingest(of(packed))
        ingest.write(packed)
        blob = ingest.commit()
        with self.content.open(blob) as file:
            draft = self.layers.extract(file)
        chain = ChainID(of(data + (parent or "").encode()))
        self.layers.commit(draft, chain, parent)
        return LayerRow(chain, DiffID(of(data)), draft.applied.size, blob, "gzip", len(packed))

    def image(self, *layers: LayerRow) -> ImageID:
        from datetime import UTC, datetime

        id = ImageID(of(repr(layers).encode()))
        self.names.put(ImageRow(id, layers, datetime.now(UTC)))
        return id

    def slim(self, id: ImageID) -> list[Digest | None]:
        asyncio.run(self.slimmer.slim([id]))
        return [layer.blob for layer in self.names.image(id).layers]

    def blobs(self) -> set[Digest]:
        return {blob.digest for blob in self.content.walk()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def by_tarfile(form: int) -> bytes:
    """As another program packs: long names, odd times, owners by name, a hole at the end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in (("a/" + "n" * 200, b"long"), ("b", bytes(3 << 20)), ("ü", b""), ("c", b"x" * 511)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname, info.uid = len(data), 1234567890, "somebody", 1000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue() + bytes(40_000)


WHITEOUTS = tar(entry("a/.wh.gone"), entry("a/.wh..wh..opq"), entry("a/", DIRECTORY))
ARCHIVES = {
    "nothing": tar(),
    "one zero block": tar(entry("f", data=b"x"))[: 512 * 3],
    "pax": by_tarfile(tarfile.PAX_FORMAT),
    "gnu": by_tarfile(tarfile.GNU_FORMAT),
    "ustar without its end": tar(entry("f", data=b"x" * 1000), entry("l", LINK, linkname="f"))[:-1024],
    "whiteouts": WHITEOUTS,
    "something behind the end": tar(entry("f", data=b"x")) + b"rest" * 999,
    "through a link": tar(entry("d/", DIRECTORY), entry("l", SYMLINK, linkname="d"), entry("l/f", data=b"x")),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_a_layer_gives_its_blob_up_and_is_written_again(world: World, what: str) -> None:
    layer = world.add(ARCHIVES[what])
    id = world.image(layer)
    assert world.slim(id) == [None]
    assert world.blobs() == set()
    assert b"".join(rebuilt(world.names.image(id).layers[0], world.snapshots)) == ARCHIVES[what]


def test_a_layer_that_cannot_be_written_again_keeps_its_blob(world: World) -> None:
    twice = world.add(tar(entry("f", data=b"first"), entry("f", data=b"second")))
    once = world.add(tar(entry("g", data=b"g")), twice.chain)
    id = world.image(twice, once)
    assert world.slim(id) == [twice.blob, None]
    assert world.blobs() == {twice.blob}
    assert not is_noted(twice.chain, world.snapshots)


def test_what_others_need_stays(world: World) -> None:
    layer = world.add(tar(entry("f", data=b"x")))
    assert layer.blob
    id = world.image(layer)
    world.needed.add(layer.blob)
    assert world.slim(id) == [None]
    assert world.blobs() == {layer.blob}
    leased = world.add(tar(entry("f", data=b"y")))
    assert leased.blob
    with world.leases.hold(leased.blob):
        assert world.slim(world.image(leased)) == [None]
    assert leased.blob in world.blobs()


def test_without_notes_nothing_goes(world: World) -> None:
    world.layers.noting = False
    layer = world.add(tar(entry("f", data=b"x")))
    assert world.slim(world.image(layer)) == [layer.blob]
    assert world.blobs() == {layer.blob}


def test_the_disk_has_the_files_before_the_first_blob_goes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[set[Digest]] = []
    monkeypatch.setattr(world.content, "sync", lambda: flushed.append(world.blobs()))
    bottom = world.add(tar(entry("f", data=b"x")))
    top = world.add(tar(entry("g", data=b"y")), bottom.chain)
    assert world.slim(world.image(bottom, top)) == [None, None]
    assert flushed == [{bottom.blob, top.blob}]


def test_images_that_went_meanwhile_are_no_failure_of_what_brought_them(world: World) -> None:
    layer = world.add(tar(entry("f", data=b"x")))
    id = world.image(layer)
    asyncio.run(world.slimmer.slim([ImageID("sha256:gone"), id]))
    assert world.names.image(id).layers[0].blob is None


def test_a_layer_that_cannot_be_read_is_logged_and_keeps_its_blob(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(layer: LayerRow, snapshots: Snapshotter) -> Iterator[bytes]:
        raise OSError(5, "Input/output error")

    layer = world.add(tar(entry("f", data=b"x")))
    monkeypatch.setattr(slimming, "rebuilt", failing)
    assert world.slim(world.image(layer)) == [layer.blob]
    assert world.blobs() == {layer.blob}
    assert "Input/output error" in caplog.text


def test_two_may_judge_one_layer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = world.add(tar(entry("f", data=b"first"), entry("f", data=b"second")))
    id = world.image(layer)

    def other_was_quicker(layer: LayerRow, snapshots: Snapshotter) -> Iterator[bytes]:
        yield from ()
        Path(snapshots.notes(layer.chain)).unlink()
        raise DigestMismatch("not what it was")

    monkeypatch.setattr(slimming, "rebuilt", other_was_quicker)
    monkeypatch.setattr(slimming.log, "warning", pytest.fail)
    assert world.slim(id) == [layer.blob]


@pytest.mark.parametrize("harm", ["shorter", "gone", "other", "notes"])
def test_files_and_notes_that_were_harmed_are_told(world: World, harm: str) -> None:
    layer = world.add(tar(entry("f", data=b"x" * 5000)))
    file = Path(world.snapshots.directory(layer.chain), "f")
    notes = Path(world.snapshots.notes(layer.chain))
    match harm:
        case "shorter":
            file.write_bytes(b"x")
        case "gone":
            file.unlink()
        case "other":
            file.write_bytes(b"y" * 5000)
        case "notes":
            notes.write_bytes(notes.read_bytes()[:-9])
    with pytest.raises(DigestMismatch):
        b"".join(rebuilt(layer, world.snapshots))
