"""Names of content: digests of blobs, of uncompressed layers, of layer stacks. Pure.

Each is a string `sha256:<64 hex>`; the distinct types let mypy refuse to mix them.
OCI image-spec 1.1, descriptor.md § Digests.
"""

import re
from typing import NewType

from skiff.errors import InvalidParameter

Digest = NewType("Digest", str)  # of the bytes as stored or sent
DiffID = NewType("DiffID", str)  # of a layer's uncompressed tar
ChainID = NewType("ChainID", str)  # of a stack of diff IDs; names a committed snapshot
ImageID = NewType("ImageID", str)  # of the image config

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def parse(text: str) -> Digest:
    """The digest that text spells, or InvalidParameter.

    digest := algorithm ":" hex      algorithm := "sha256" | "sha512"
    """
    if not _DIGEST.fullmatch(text):
        raise InvalidParameter(f"invalid digest {text!r}: expected sha256: and 64 hexadecimal digits")
    return Digest(text)


def algorithm(digest: str) -> str:
    """`sha256` of `sha256:ab…`."""
    return digest.partition(":")[0]


def encoded(digest: str) -> str:
    """The hexadecimal part."""
    return digest.partition(":")[2]


def of(data: bytes | memoryview) -> Digest:
    """The sha256 digest of data."""
    import hashlib  # OpenSSL is slow to load, and the command line takes no digests

    return Digest("sha256:" + hashlib.sha256(data).hexdigest())
