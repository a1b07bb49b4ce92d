"""An archive's files become blobs that the collector leaves alone from their first moment."""

import io
import tarfile
from collections.abc import AsyncIterator

import pytest
from tests.fakes.memory_content import MemoryContent

from skiff.engine.images.spool import spool, spool_one
from skiff.oci.digest import Digest


class Watched(MemoryContent):
    """Says when a blob became visible that nobody held."""

    def __init__(self) -> None:
        self.leased: set[str] = set()
        self.unheld: list[Digest] = []
        super().__init__()

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, Blobs(self) if name == "blobs" else value)


class Blobs(dict[Digest, bytes]):
    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self.watched = watched

    def __setitem__(self, digest: Digest, data: bytes) -> None:
        if digest not in self.watched.leased:
            self.watched.unheld.append(digest)
        super().__setitem__(digest, data)


async def body(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (("manifest.json", b"[]"), ("layer", b"x" * 5000)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


async def test_a_blob_is_held_before_it_is_there(archive: bytes) -> None:
    content = Watched()
    held = await spool(body(archive), content, content.leased.add, lambda digest, is_plain: None)
    assert len(held.digests) == len(content.blobs) == 2
    assert await spool_one(body(archive), content, content.leased.add) in content.blobs
    assert content.unheld == []
