"""A layer's tar made again from its snapshot: for those that were built here, and have no blob.

What was extracted comes to the same bytes only if whoever packed it packed as we do: the digest tells.
"""

import hashlib
from collections.abc import Iterator

from skiff.engine.images.names import LayerRow
from skiff.engine.storage import diff
from skiff.engine.storage.snapshots import Snapshotter
from skiff.errors import DigestMismatch

PIECE = 1 << 20


def rebuilt(layer: LayerRow, snapshots: Snapshotter) -> Iterator[bytes]:
    """The plain tar in large pieces. DigestMismatch, after the last, when it is not what it was."""
    digest = hashlib.sha256()
    with snapshots.change(layer.chain) as (upper, lowers):
        for piece in collected(diff.upper_layer(upper, lowers)):
            digest.update(piece)
            yield piece
    if f"sha256:{digest.hexdigest()}" != layer.diff_id:
        raise DigestMismatch(
            f"the bytes of layer {layer.diff_id} are not kept and cannot be made again: pull the image"
        )


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
