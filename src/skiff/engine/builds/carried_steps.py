"""What a cache says that is carried from one engine to another: steps by key, and what they came to. Pure."""

from msgspec import Struct

from skiff.engine.builds.keys import Part
from skiff.oci.digest import ChainID, DiffID, Digest


class CarriedStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step. parent: the chain it stands on. diff_id, size and blob: of its layer, unless it has none.

    text and parts are for --why; blob is not known where an image's own layers are meant.
    """

    key: Digest
    parent: ChainID | None
    above: str
    text: str = ""
    parts: tuple[Part, ...] = ()
    diff_id: DiffID | None = None
    size: int = 0
    blob: Digest | None = None


class CarriedCache(Struct, frozen=True, kw_only=True):
    """images: when the image after a step was first made, by the step's key."""

    steps: tuple[CarriedStep, ...]
    images: dict[str, str]
