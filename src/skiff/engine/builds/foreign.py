"""An image that Docker's classic builder made, as a cache: --cache-from names it, and it is here. Pure.

Its history tells of each step what was done; where that is what our steps do, from the very first one on,
their layers are taken from it. Copies tell a checksum of their own there and never match: what follows one is
done anew.

    /bin/sh -c #(nop)  ENV A=b      ENV A=b
    |1 A=b /bin/sh -c make          RUN |1 A=b /bin/sh -c make # buildkit
"""

from collections.abc import Sequence

from msgspec import Struct

from skiff.engine.builds.dockerfile.history import COMMENT, run
from skiff.engine.builds.plan import DirectoryOp, ExecOp, MetaOp, Op
from skiff.engine.images.names import LayerRow
from skiff.oci.digest import ChainID
from skiff.oci.image import History, ImageConfig

_NOTHING_RUN = "/bin/sh -c #(nop) "


class ForeignImage(Struct, frozen=True):
    """words: of each step, in our spelling. layers: what each added; None: nothing."""

    words: tuple[str, ...]
    layers: tuple[LayerRow | None, ...]

    def step(self, op: Op, words: Sequence[str], parent: ChainID | None) -> tuple[LayerRow | None] | None:
        """What the last of these steps, op, came to on that parent; None: this image does not tell."""
        count = len(words)
        if not count or self.words[:count] != tuple(words):
            return None
        layer = self.layers[count - 1]
        if layer is None and not isinstance(op, MetaOp):
            return (
                None  # it may have changed files all the same: squashing leaves none of the steps its layer
            )
        below = [one.chain for one in self.layers[: count - 1] if one]
        return (layer,) if (below[-1] if below else None) == parent else None


def image(config: ImageConfig, layers: Sequence[LayerRow]) -> ForeignImage | None:
    """None: its history does not say which step each layer is of."""
    adding = [entry for entry in config.steps if not entry.empty_layer]
    if len(adding) != len(layers) or not all(entry.created_by for entry in adding):
        return None  # without a word of it: what several steps were squashed to
    rows = iter(layers)
    added = tuple(None if entry.empty_layer else next(rows) for entry in config.steps)
    return ForeignImage(words(config.steps), added)


def words(history: Sequence[History]) -> tuple[str, ...]:
    """What an image's history says, in the spelling of the steps of a plan."""
    return tuple(_ours(entry) for entry in history)


def may_match(op: Op) -> bool:
    """Whether the words of a history tell all that the op depends on."""
    if isinstance(op, ExecOp):
        is_plain = op.network == "default" and op.security == "sandbox"
        return is_plain and not (op.mounts or op.scripts or op.ignore_cache)
    return isinstance(op, MetaOp) or (isinstance(op, DirectoryOp) and not op.ignore_cache)


def _ours(entry: History) -> str:
    text = entry.created_by or ""
    if entry.comment == COMMENT:
        return f"BuildKit: {text}"  # no step of the classic builder, whose words they might be
    if text.startswith(_NOTHING_RUN):
        return text.removeprefix(_NOTHING_RUN).strip()
    return run([text], ())
