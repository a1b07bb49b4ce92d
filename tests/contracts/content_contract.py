"""What every ContentStore does. Subclass and give a `store` fixture."""

import hashlib

import pytest

from skiff.engine.storage.content import ContentStore
from skiff.errors import Conflict, DigestMismatch, NotFound
from skiff.oci.digest import Digest, of

ABSENT = Digest("sha256:" + "0" * 64)


class ContentContract:
    def test_committed_bytes_can_be_read(self, store: ContentStore) -> None:
        ingest = store.ingest("a")
        ingest.write(b"hello ")
        ingest.write(memoryview(b"world"))
        digest = ingest.commit(of(b"hello world"), 11)
        assert digest == "sha256:" + hashlib.sha256(b"hello world").hexdigest()
        with store.open(digest) as blob:
            assert blob.read() == b"hello world"
        assert store.info(digest).size == 11
        assert [info.digest for info in store.walk()] == [digest]
        with open(store.path(digest), "rb") as file:
            assert file.read() == b"hello world"

    def test_nothing_is_visible_before_the_commit(self, store: ContentStore) -> None:
        ingest = store.ingest("a")
        ingest.write(b"hello")
        with pytest.raises(NotFound):
            store.info(of(b"hello"))
        assert list(store.walk()) == []
        ingest.close()

    def test_the_same_ref_resumes(self, store: ContentStore) -> None:
        first = store.ingest("a")
        first.write(b"hello ")
        first.close()
        second = store.ingest("a")
        assert second.offset == 6
        second.write(b"world")
        assert second.commit() == of(b"hello world")
        assert store.ingest("a").offset == 0

    def test_two_at_once_conflict(self, store: ContentStore) -> None:
        held = store.ingest("a")
        with pytest.raises(Conflict):
            store.ingest("a")
        other = store.ingest("b")
        other.close()
        held.close()
        store.ingest("a").close()

    @pytest.mark.parametrize(("expected", "size"), [(ABSENT, None), (None, 4), (of(b"hello"), 6)])
    def test_a_mismatch_drops_the_bytes(
        self, store: ContentStore, expected: Digest | None, size: int | None
    ) -> None:
        ingest = store.ingest("a")
        ingest.write(b"hello")
        with pytest.raises(DigestMismatch):
            ingest.commit(expected, size)
        assert list(store.walk()) == []
        again = store.ingest("a")
        assert again.offset == 0
        again.abort()

    def test_abort_drops_the_bytes(self, store: ContentStore) -> None:
        ingest = store.ingest("a")
        ingest.write(b"hello")
        ingest.abort()
        ingest.abort()
        again = store.ingest("a")
        assert again.offset == 0
        again.abort()

    def test_the_same_blob_twice_is_one(self, store: ContentStore) -> None:
        for ref in ("a", "b"):
            ingest = store.ingest(ref)
            ingest.write(b"x")
            ingest.commit()
        assert len(list(store.walk())) == 1

    def test_empty_blob(self, store: ContentStore) -> None:
        digest = store.ingest("a").commit()
        assert store.info(digest).size == 0

    def test_delete(self, store: ContentStore) -> None:
        digest = store.ingest("a").commit()
        store.delete(digest)
        for act in (store.delete, store.info, store.open, store.path):
            with pytest.raises(NotFound):
                act(digest)

    def test_sync(self, store: ContentStore) -> None:
        store.ingest("a").commit()
        store.sync()
