"""Manifests: what an image is made of, and which of several suits a platform. Pure.

OCI and Docker schema 2 spell the same things and parse to the same types.
OCI image-spec 1.1, descriptor.md, manifest.md, image-index.md; Docker image manifest v2, schema 2.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from skiff.errors import InvalidParameter, NotFound, NotImplementedHere
from skiff.oci.digest import Digest
from skiff.oci.platform import Platform, normalise, served_by

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD: Final = OCI_LAYER + "+zstd"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = DOCKER_LAYER + ".gzip"
DOCKER_FOREIGN_GZIP: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
SCHEMA_1: Final = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
LAYERS: Final = frozenset(
    {
        OCI_LAYER,
        OCI_LAYER_GZIP,
        OCI_LAYER_ZSTD,
        DOCKER_LAYER,
        DOCKER_LAYER_GZIP,
        DOCKER_LAYER + ".zstd",
        DOCKER_FOREIGN_GZIP,
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
ACCEPTED: Final = (
    OCI_INDEX,
    DOCKER_LIST,
    OCI_MANIFEST,
    DOCKER_MANIFEST,
)  # asked of a registry, in this order
LARGEST: Final = 4 << 20  # bytes; registries refuse larger manifests, and so do we

ATTESTATION: Final = "attestation-manifest"  # value of the annotation below
REFERENCE_TYPE: Final = "vnd.docker.reference.type"
REFERENCE_NAME: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME: Final = "io.containerd.image.name"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Value(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Base of the parts: camelCase on the wire, what is absent omitted."""


class Descriptor(Value, frozen=True):
    """A typed pointer to a blob. size in bytes; urls: where else the bytes are."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None

    @property
    def is_attestation(self) -> bool:
        """It describes another manifest (provenance, SBOM) and holds nothing to run."""
        return (self.annotations or {}).get(REFERENCE_TYPE) == ATTESTATION


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One image: its config and its layers, the lowest first."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Several images under one name, one per platform."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class _Kind(Struct, frozen=True, rename="camel"):
    """Enough of a document to tell what it is."""

    schema_version: int = 0
    media_type: str | None = None
    config: Any = None
    manifests: Any = None
    layers: Any = None


def parse(data: bytes, media_type: str = "") -> Manifest | Index:
    """The manifest or index that data holds. InvalidParameter, NotImplementedHere.

    media_type: as its carrier gave it (a Content-Type, a descriptor); empty or vague, the document decides.
    A document that could be read as either is refused: OCI distribution-spec, CVE-2021-41190.
    """
    if len(data) > LARGEST:
        raise InvalidParameter(f"manifest of {len(data)} bytes: expected at most {LARGEST}")
    try:
        kind = msgspec.json.decode(data, type=_Kind)
        media_type = media_type.partition(";")[0].strip()
        if media_type in SCHEMA_1 or kind.schema_version == 1:
            raise NotImplementedHere(
                "Docker image manifest version 2, schema 1 is not supported:"
                " push the image again with a current tool"
            )
        if kind.manifests is not None and (kind.layers is not None or kind.config is not None):
            raise InvalidParameter("ambiguous manifest: it has both manifests and layers")
        is_index = kind.manifests is not None
        for said in (media_type, kind.media_type):
            if said in (MANIFESTS if is_index else INDEXES):
                raise InvalidParameter(f"manifest is not what its media type {said} promises")
        if is_index:
            document: Manifest | Index = msgspec.json.decode(data, type=Index)
        else:
            document = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid manifest: {error}") from error
    _check(document)
    return document


def type_of(document: Manifest | Index) -> str:
    """What the document says it is, else what it looks like."""
    return document.media_type or (OCI_INDEX if isinstance(document, Index) else OCI_MANIFEST)


def encode(document: Manifest | Index) -> bytes:
    """Its JSON, in the order the specification prints it."""
    order = ("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject")
    fields = msgspec.to_builtins(document)
    return msgspec.json.encode(
        {key: fields[key] for key in (*order, "annotations") if fields.get(key) is not None}
    )


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The image of the index that serves the wanted platform best. NotFound in Docker's words.

    Attestations are passed over. An entry without a platform serves only if nothing else does.
    """
    candidates = [one for one in index.manifests if not one.is_attestation]
    for platform in served_by(wanted):
        for one in candidates:
            if one.platform is not None and normalise(one.platform) == platform:
                return one
    for one in candidates:
        if one.platform is None and one.media_type in MANIFESTS | INDEXES:
            return one
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")


def manifest(
    config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str] | None = None
) -> Manifest:
    """An image manifest of those parts, of the family (OCI or Docker) that its config belongs to."""
    return Manifest(
        schema_version=2,
        media_type=DOCKER_MANIFEST if config.media_type == DOCKER_CONFIG else OCI_MANIFEST,
        config=config,
        layers=tuple(layers),
        annotations=dict(annotations) if annotations else None,
    )


def _check(document: Manifest | Index) -> None:
    if document.schema_version != 2:
        raise InvalidParameter(f"invalid manifest: schema version {document.schema_version}, expected 2")
    parts = document.manifests if isinstance(document, Index) else (document.config, *document.layers)
    for part in parts:
        if not _DIGEST.fullmatch(part.digest):
            raise InvalidParameter(f"invalid manifest: invalid digest {part.digest!r}")
        if part.size < 0:
            raise InvalidParameter(f"invalid manifest: size {part.size} of {part.digest}")
