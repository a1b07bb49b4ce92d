"""What an op came to: a file system, as layers or as a plain directory."""

from collections.abc import Mapping

from msgspec import Struct

from skiff.engine.images.names import LayerRow
from skiff.oci.digest import ChainID, Digest, ImageID
from skiff.oci.image import ImageConfig


class FileSystem(Struct, frozen=True, kw_only=True):
    """key: its cache key. chain and layers: where it is made of layers; chain None is an empty one.

    directory: where it is a plain tree (a context, a download), with the digests of files known already.
    token: names a plain tree that other builds read, too: it never changes.
    layer: what the op itself added. image: what a FROM found, and its config.
    """

    key: Digest
    chain: ChainID | None = None
    layers: tuple[LayerRow, ...] = ()
    directory: str = ""
    sums: Mapping[str, str] = {}
    token: str = ""
    layer: LayerRow | None = None
    is_cached: bool = False
    image: ImageID | None = None
    config: ImageConfig | None = None
