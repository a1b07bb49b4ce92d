import json
from pathlib import Path

import pytest
from tests.contracts.content_contract import ContentContract
from tests.fakes.memory_content import MemoryContent

from skiff.engine.storage.content import ContentStore, FileContent
from skiff.errors import InvalidParameter, NotFound
from skiff.oci.digest import Digest, encoded


class TestFileContent(ContentContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ContentStore:
        return FileContent(str(tmp_path))


class TestMemoryContent(ContentContract):
    @pytest.fixture
    def store(self) -> ContentStore:
        return MemoryContent()


def test_it_is_an_oci_layout(tmp_path: Path) -> None:
    digest = FileContent(str(tmp_path)).ingest("a").commit()
    assert json.loads((tmp_path / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert (tmp_path / "blobs" / "sha256" / encoded(digest)).exists()


def test_an_ingest_resumes_after_a_restart(tmp_path: Path) -> None:
    ingest = FileContent(str(tmp_path)).ingest("a/b?c")
    ingest.write(b"hello ")
    del ingest  # the engine dies: only the file is left
    again = FileContent(str(tmp_path)).ingest("a/b?c")
    assert again.offset == 6
    again.write(b"world")
    assert again.commit().endswith("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")


def test_a_blob_lost_to_a_power_failure_is_not_there(tmp_path: Path) -> None:
    store = FileContent(str(tmp_path))
    digest = Digest("sha256:" + "1" * 64)
    lost = tmp_path / "blobs" / "sha256" / encoded(digest)
    lost.touch()
    with pytest.raises(NotFound):
        store.info(digest)
    assert not lost.exists()


def test_only_sha256(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        FileContent(str(tmp_path)).info(Digest("sha512:" + "1" * 128))
    with pytest.raises(InvalidParameter):
        FileContent(str(tmp_path)).open(Digest("sha256:../../../etc/passwd"))


def test_abandoned_ingests_are_dropped_unless_held(tmp_path: Path) -> None:
    store = FileContent(str(tmp_path))
    store.ingest("a").close()
    held = store.ingest("b")
    assert store.abandoned(older_than_ns=2**62) == 1
    held.write(b"x")
    held.commit()
