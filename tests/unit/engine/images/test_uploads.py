"""Sessions of blobs that come in: order, interruption, expiry, leases."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.memory_content import MemoryContent

from skiff.engine.images.uploads import (
    LEASE_SECONDS,
    MOST_SESSIONS,
    SESSION_SECONDS,
    OutOfOrder,
    Refusal,
    Uploads,
)
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.state import MemoryState
from skiff.oci import digest as digests

REPOSITORY = "docker.io/library/x"


class Room:
    def __init__(self) -> None:
        self.now = 0.0
        self.content, self.leases = MemoryContent(), Leases(MemoryState())
        self.uploads = Uploads(self.content, self.leases, lambda: self.now)


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_an_abandoned_session_is_dropped_after_an_hour() -> None:
    room = Room()
    id = room.uploads.begin(REPOSITORY)
    await room.uploads.append(REPOSITORY, id, stream(b"some"))
    room.now = SESSION_SECONDS + 1
    room.uploads.begin(REPOSITORY)
    with pytest.raises(Refusal) as gone:
        await room.uploads.held(REPOSITORY, id)
    assert gone.value.code == "BLOB_UPLOAD_UNKNOWN"
    room.uploads.close()
    assert not room.content.held
    assert not room.content.busy


async def test_what_came_is_leased_for_an_hour() -> None:
    room = Room()
    data = b"a blob"
    id = room.uploads.begin(REPOSITORY)
    await room.uploads.append(REPOSITORY, id, stream(data))
    await room.uploads.finish(REPOSITORY, id, digests.of(data))
    assert room.leases.held() == {digests.of(data)}
    room.now = LEASE_SECONDS / 2
    room.uploads.keep(digests.of(data))  # somebody asked for it again
    room.now = LEASE_SECONDS + 1
    room.uploads.begin(REPOSITORY)
    assert room.leases.held() == {digests.of(data)}
    room.now = 2 * LEASE_SECONDS
    room.uploads.begin(REPOSITORY)
    assert not room.leases.held()
    room.uploads.close()


async def test_sessions_are_not_without_end() -> None:
    room = Room()
    for _ in range(MOST_SESSIONS):
        room.uploads.begin(REPOSITORY)
    with pytest.raises(Refusal) as many:
        room.uploads.begin(REPOSITORY)
    assert many.value.code == "TOOMANYREQUESTS"
    room.uploads.close()


async def test_who_asks_again_ends_what_was_being_sent() -> None:
    room = Room()
    id = room.uploads.begin(REPOSITORY)
    silent = asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        yield b"before"
        silent.set()
        await asyncio.sleep(3600)

    sending = asyncio.ensure_future(room.uploads.append(REPOSITORY, id, hangs()))
    await silent.wait()
    assert await room.uploads.held(REPOSITORY, id) == 6
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await room.uploads.append(REPOSITORY, id, stream(b" after"), start=6) == 12
    await room.uploads.finish(REPOSITORY, id, digests.of(b"before after"))
    room.uploads.close()


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(0, 100))
def test_chunks_in_order_make_the_blob(pieces: list[bytes], wrong: int) -> None:
    async def scenario() -> None:
        room = Room()
        id = room.uploads.begin(REPOSITORY)
        held = 0
        for piece in pieces:
            if wrong != held:
                with pytest.raises(OutOfOrder) as out:
                    await room.uploads.append(REPOSITORY, id, stream(b"x"), wrong)
                assert out.value.held == held
            held = await room.uploads.append(REPOSITORY, id, stream(piece), held)
        whole = b"".join(pieces)
        assert await room.uploads.finish(REPOSITORY, id, digests.of(whole)) == len(whole)
        assert room.content.blobs[digests.of(whole)] == whole
        room.uploads.close()

    asyncio.run(scenario())
