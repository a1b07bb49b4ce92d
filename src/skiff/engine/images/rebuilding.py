"""A layer's tar made again from its snapshot, where its blob is not kept.

    by its notes        the bytes that were extracted (storage/tarnotes.py)
    else                packed as we pack: what was built here. What came from elsewhere comes to the same
                        bytes only if whoever packed it packed as we do

The digest tells.
"""

import hashlib
import os
from collections.abc import Iterator

from skiff.engine.images.names import LayerRow
from skiff.engine.storage import compression, diff
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.tarnotes import RECORD
from skiff.engine.storage.tarstream import Source
from skiff.errors import DigestMismatch, HostileArchive
from skiff.linux import safepath
from skiff.oci.digest import ChainID

PIECE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def rebuilt(layer: LayerRow, snapshots: Snapshotter) -> Iterator[bytes]:
    """The plain tar in large pieces. DigestMismatch, perhaps after the last, when it is not what it was."""
    digest = hashlib.sha256()
    with snapshots.change(layer.chain) as (upper, lowers):
        if is_noted(layer.chain, snapshots):
            pieces = _rewritten(snapshots.notes(layer.chain), upper)
        else:
            pieces = diff.upper_layer(upper, lowers)
        for piece in collected(pieces):
            digest.update(piece)
            yield piece
    if f"sha256:{digest.hexdigest()}" != layer.diff_id:
        raise DigestMismatch(
            f"the bytes of layer {layer.diff_id} are not kept and cannot be made again: pull the image"
        )


def is_noted(chain: ChainID, snapshots: Snapshotter) -> bool:
    """Whether there are notes of a committed layer."""
    return os.path.exists(snapshots.notes(chain))


def collected(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in large pieces."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= PIECE:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _rewritten(notes: str, directory: str) -> Iterator[bytes]:
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(notes, "rb", buffering=0) as file:
            source = Source(compression.decompressed(file.read))
            while head := source.read(RECORD.size):
                size, length = RECORD.unpack(head)
                if length:
                    yield from _content(root, source.read(length), size)
                else:
                    yield from map(bytes, source.pieces(size))
    except HostileArchive as error:  # the disk was full, or a power failure cut them short
        raise DigestMismatch(f"the notes of a layer are damaged: {error}") from error
    finally:
        os.close(root)


def _content(root: int, path: bytes, size: int) -> Iterator[bytes]:
    shown = os.fsdecode(path)
    try:
        fd = safepath.open_in_root(root, path, _READ)
    except OSError as error:
        raise DigestMismatch(f"the layer's {shown} cannot be read: {error.strerror}") from error
    left = size
    try:
        while left and (data := os.read(fd, min(left, PIECE))):
            left -= len(data)
            yield data
    finally:
        os.close(fd)
    if left:
        raise DigestMismatch(f"the layer's {shown} is shorter than it was")
