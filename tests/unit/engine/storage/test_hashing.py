"""Digests taken in a thread are those taken at once."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.storage import hashing
from skiff.engine.storage.hashing import Hasher, sha256


@given(st.lists(st.binary(max_size=40), max_size=60), st.integers(1, 100))
def test_chunks_in_their_order(chunks: list[bytes], batch: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_BATCH", batch)
        assert sha256(chunks) == "sha256:" + hashlib.sha256(b"".join(chunks)).hexdigest()


def test_many_at_once() -> None:
    texts = [bytes([number]) * 300_000 for number in range(20)]
    digests = [hashlib.sha256() for _ in texts]
    with Hasher() as hasher:
        for digest, text in zip(digests, texts, strict=True):
            for at in range(0, len(text), 70_000):
                hasher.add(digest, memoryview(text)[at : at + 70_000])
    assert [digest.digest() for digest in digests] == [hashlib.sha256(text).digest() for text in texts]


def test_an_error_of_the_maker_is_the_error() -> None:
    def chunks() -> object:
        yield b"x" * (3 << 20)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        sha256(chunks())  # type: ignore[arg-type]
