"""What the names in a layer's tar mean: whiteouts, opaque directories, ordinary paths. Pure.

Paths are bytes, as in the tar. OCI image-spec 1.1, layer.md § Whiteouts.
"""

import re
from typing import Literal

from skiff.errors import HostileArchive

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
AUFS_PREFIX = b".wh..wh."  # other names beginning so are aufs's own bookkeeping, found in very old layers

# Most names: neither a slash, a point nor a zero byte begins a part, nor is one empty.
_PLAIN = re.compile(rb"[^/.\0][^/\0]*(?:/[^/.\0][^/\0]*)*").fullmatch

Sense = Literal["ordinary", "whiteout", "opaque", "skip"]


def clean(name: bytes) -> bytes:
    """The path relative to the layer's root, without `.`, empty parts and a leading slash; b"" is the root.

    Raises HostileArchive for `..`. An absolute name means the same below the root, as Docker reads it.
    """
    if _PLAIN(name):
        return name
    if b"\0" in name:
        raise HostileArchive(f"the archive holds a name with a zero byte: {name!r}")
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise HostileArchive(f"the archive holds a name that leaves its directory: {show(name)}")
    return b"/".join(parts)


def sense(path: bytes) -> tuple[Sense, bytes]:
    """What a clean path stands for, and the path concerned: what is hidden, or the opaque directory."""
    parent, slash, name = path.rpartition(b"/")
    if not name.startswith(WHITEOUT_PREFIX):
        return "ordinary", path
    if name == OPAQUE_NAME:
        return "opaque", parent
    if name.startswith(AUFS_PREFIX):
        return "skip", path
    hidden = name[len(WHITEOUT_PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise HostileArchive(f"the archive holds a whiteout of nothing: {show(path)}")
    return "whiteout", parent + slash + hidden


def whiteout(path: bytes) -> bytes:
    """The name of the entry that hides path."""
    parent, slash, name = path.rpartition(b"/")
    return parent + slash + WHITEOUT_PREFIX + name


def opaque(directory: bytes) -> bytes:
    """The name of the entry that hides everything below directory in lower layers."""
    return directory + b"/" + OPAQUE_NAME if directory else OPAQUE_NAME


def show(name: bytes) -> str:
    """A name for a message: readable, of bounded length."""
    text = name.decode("utf-8", "backslashreplace")
    return text if len(text) <= 200 else text[:197] + "..."
