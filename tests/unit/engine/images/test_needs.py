"""Blobs that go at once, and those that somebody needs."""

from datetime import UTC, datetime
from pathlib import Path

from skiff.engine.images.names import ImageRow, LayerRow, Names
from skiff.engine.images.needs import Needs
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.state import MemoryState
from skiff.oci.digest import ChainID, DiffID, Digest, ImageID
from skiff.oci.reference import parse

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(config: Digest, layer: Digest, manifest: Digest | None = None) -> ImageRow:
    layers = (LayerRow(ChainID(layer), DiffID(layer), 1, layer),)
    return ImageRow(ImageID(config), layers, NOW, manifest=manifest)


def test_what_nobody_needs_goes(tmp_path: Path) -> None:
    state, content = MemoryState(), FileContent(str(tmp_path))
    names, leases = Names(state), Leases(state)

    def blob(data: bytes) -> Digest:
        ingest = content.ingest("blob")
        ingest.write(data)
        return ingest.commit()

    removed = row(blob(b"config of a removed one"), blob(b"layer of a removed one"))
    image = row(blob(b"config"), blob(b"layer"), blob(b"manifest"))
    named, served, leased = blob(b"the manifest of a name"), blob(b"served"), blob(b"leased")
    names.put(image, [(parse(f"app@{named}"), named)])
    needed = {blob.digest for blob in content.walk()}
    absent = blob(b"gone already")
    content.delete(absent)
    needs = Needs(names, content, leases, lambda: [removed], lambda: {served})
    with leases.hold(leased):
        needs.drop({*needed, blob(b"of nobody"), absent})
        assert {blob.digest for blob in content.walk()} == needed
    needs.drop({leased})
    assert {blob.digest for blob in content.walk()} == needed - {leased}
    assert [one.id for one in needs.images()] == [image.id, removed.id]
