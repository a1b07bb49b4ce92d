"""The manifest of an image of ours: the one it came with, or one of our making."""

import msgspec
from msgspec import Struct

from skiff.engine.images.names import ImageRow
from skiff.engine.storage.content import ContentStore
from skiff.errors import InvalidParameter, NotFound
from skiff.oci import digest as digests
from skiff.oci import manifest as manifests
from skiff.oci.digest import Digest
from skiff.oci.manifest import Descriptor, Manifest

_IN_DOCKERS_WORDS = {
    manifests.OCI_LAYER_GZIP: manifests.DOCKER_LAYER_GZIP,
    manifests.OCI_LAYER: manifests.DOCKER_LAYER,
}
_IN_OCIS_WORDS = {docker: oci for oci, docker in _IN_DOCKERS_WORDS.items()}


class Document(Struct, frozen=True):
    """A manifest as it goes over the wire."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        return digests.of(self.data)


def read(content: ContentStore, digest: Digest, most: int = manifests.LARGEST) -> bytes:
    """A manifest, index or config, whole. NotFound; InvalidParameter: a blob larger than most is none."""
    size = content.info(digest).size
    if size > most:
        raise InvalidParameter(f"{digest} of {size} bytes: expected a document of at most {most}")
    with content.open(digest) as blob:
        return blob.read()


def came_with(content: ContentStore, row: ImageRow) -> tuple[Document, Manifest] | None:
    """The manifest that the image came with, byte for byte; None when there is none that fits it."""
    if row.manifest is None:
        return None
    try:
        data = read(content, row.manifest)
    except NotFound:
        return None
    document = manifests.parse(data)
    if not isinstance(document, Manifest) or len(document.layers) != len(row.layers):
        return None
    is_docker = document.config.media_type == manifests.DOCKER_CONFIG
    spoken = manifests.DOCKER_MANIFEST if is_docker else manifests.OCI_MANIFEST
    return Document(data, document.media_type or spoken), document


def made(
    content: ContentStore, row: ImageRow, layers: list[Descriptor], own: Document | None
) -> tuple[Document, Manifest]:
    """A manifest of those layers, in the family of the one that the image came with: Docker's without one.

    Zstandard exists in OCI's words only.
    """
    is_docker = (own is None or own.media_type == manifests.DOCKER_MANIFEST) and not any(
        "zstd" in one.media_type for one in layers
    )
    words = _IN_DOCKERS_WORDS if is_docker else _IN_OCIS_WORDS
    config = Descriptor(
        manifests.DOCKER_CONFIG if is_docker else manifests.OCI_CONFIG,
        Digest(row.id),
        content.info(Digest(row.id)).size,
    )
    found = manifests.manifest(
        config,
        [Descriptor(words.get(one.media_type, one.media_type), one.digest, one.size) for one in layers],
    )
    data = manifests.encode(found)
    if is_docker:  # as Docker indents its own: the same image gets the same digest
        data = msgspec.json.format(data, indent=3)
    return Document(data, found.media_type or ""), found
