"""Documents among the blobs that others have sent."""

from pathlib import Path

import pytest

from skiff.engine.images import documents
from skiff.engine.storage.content import FileContent
from skiff.errors import InvalidParameter
from skiff.oci import digest as digests


def test_a_blob_that_is_too_large_is_no_document(tmp_path: Path) -> None:
    content = FileContent(str(tmp_path))
    data = b"x" * 100
    digest = digests.of(data)
    ingest = content.ingest("x")
    ingest.write(data)
    ingest.commit(digest)
    assert documents.read(content, digest, 100) == data
    with pytest.raises(InvalidParameter, match="of 100 bytes: expected a document of at most 99"):
        documents.read(content, digest, 99)
