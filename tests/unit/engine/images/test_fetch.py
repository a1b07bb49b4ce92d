"""Blobs from a registry that misbehaves into a real content store."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.registry import FakeRegistry

from skiff.engine.images.fetch import Fetcher
from skiff.engine.registry.client import Registries, Repository
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.transport import HttpTransport
from skiff.engine.storage.content import FileContent
from skiff.errors import DigestMismatch
from skiff.oci.digest import Digest
from skiff.oci.manifest import OCI_LAYER, Descriptor
from skiff.oci.reference import parse

DATA = os.urandom(5 << 20)


class Room:
    """A registry, a store, and what was told."""

    def __init__(self, fake: FakeRegistry, transport: HttpTransport, root: Path) -> None:
        self.fake = fake
        self.transport = transport
        self.content = FileContent(str(root))
        self.fetcher = Fetcher(self.content)
        self.told: list[str] = []
        self.blob = Descriptor(OCI_LAYER, Digest(fake.put_blob(DATA)), len(DATA))
        registries = Registries(transport, Hosts(), pause=self.pause)
        self.source: Repository = registries.repository(parse(f"{fake.address}/x"))

    async def pause(self, seconds: float) -> None:
        """Nobody waits in a test."""

    def tell(self, status: str, current: int = 0, total: int = 0) -> None:
        self.told.append(status)

    async def fetch(self) -> None:
        await self.fetcher.fetch(self.source, self.blob, self.tell)

    def stored(self) -> bytes:
        with self.content.open(self.blob.digest) as blob:
            return blob.read()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    fake, transport = FakeRegistry(), HttpTransport()
    await fake.start()
    yield Room(fake, transport, tmp_path)
    await transport.close()
    await fake.stop()


async def test_fetches_and_tells(room: Room) -> None:
    await room.fetch()
    assert room.stored() == DATA
    assert room.told[0] == "Downloading"
    assert room.told[-2:] == ["Verifying Checksum", "Download complete"]
    assert room.fetcher.holds(room.blob)
    await room.fetch()
    assert len(room.fake.requests) == 1


async def test_cuts_do_not_matter(room: Room) -> None:
    room.fake.cut[room.blob.digest] = [1 << 20, 3 << 20, 100]
    await room.fetch()
    assert room.stored() == DATA


async def test_wrong_bytes_are_refused(room: Room) -> None:
    room.fake.wrong.add(room.blob.digest)
    with pytest.raises(DigestMismatch):
        await room.fetch()
    assert list(room.content.walk()) == []
    assert len(room.fake.requests) == 2  # tried once more, in case it was ours that were wrong
    room.fake.wrong.clear()
    await room.fetch()
    assert room.stored() == DATA


async def test_a_longer_blob_is_refused(room: Room) -> None:
    room.blob = Descriptor(OCI_LAYER, room.blob.digest, len(DATA) - 1)
    with pytest.raises(DigestMismatch):
        await room.fetch()


async def test_many_ask_one_fetches(room: Room) -> None:
    await asyncio.gather(*(room.fetch() for _ in range(5)))
    assert len(room.fake.requests) == 1


async def test_what_was_fetched_before_a_cancellation_is_kept(room: Room) -> None:
    room.fake.cut[room.blob.digest] = [1 << 20]
    started = asyncio.Event()

    async def never(seconds: float) -> None:
        started.set()
        await asyncio.Event().wait()

    registries = Registries(room.transport, Hosts(), pause=never)
    room.source = registries.repository(parse(f"{room.fake.address}/x"))
    task = asyncio.ensure_future(room.fetch())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ingest = room.content.ingest(f"blob {room.blob.digest}")
    assert ingest.offset == 1 << 20
    ingest.close()
