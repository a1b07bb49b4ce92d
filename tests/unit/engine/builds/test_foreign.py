"""Images that another builder made, as a cache: whose words match, and what is taken then."""

from skiff.engine.builds import foreign
from skiff.engine.builds.foreign import ForeignImage
from skiff.engine.builds.plan import CopyOp, DirectoryOp, ExecMount, ExecOp, MetaOp, OpIndex
from skiff.engine.images.names import LayerRow
from skiff.oci.digest import ChainID, DiffID
from skiff.oci.image import History, ImageConfig, RootFS

BASE, RUN = (LayerRow(ChainID(f"sha256:{one * 64}"), DiffID(f"sha256:{one * 64}"), 1) for one in "12")
HISTORY = (
    History(created_by="base"),
    History(created_by="/bin/sh -c #(nop)  ENV A=b", empty_layer=True),
    History(created_by="|1 WHO=me /bin/sh -c make"),
    History(created_by="/bin/sh -c #(nop) WORKDIR /w", empty_layer=True),
    History(created_by="/bin/sh -c #(nop) COPY file:1234 in / ", empty_layer=True),
)
OURS = ["ENV A=b", "RUN |1 WHO=me /bin/sh -c make # buildkit", "WORKDIR /w", "COPY x / # buildkit"]


def image(history: tuple[History, ...] = HISTORY, layers: tuple[LayerRow, ...] = (BASE, RUN)) -> ForeignImage:
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(), history=history)
    found = foreign.image(config, layers)
    assert found is not None
    return found


def test_steps_that_it_came_of_are_taken_in_order() -> None:
    base = foreign.words(HISTORY[:1])
    assert image().step((*base, *OURS[:1]), BASE.chain) == (None,)
    assert image().step((*base, *OURS[:2]), BASE.chain) == (RUN,)
    assert image().step((*base, *OURS[:3]), RUN.chain) == (None,)


def test_what_it_did_not_come_of_is_not() -> None:
    base = foreign.words(HISTORY[:1])
    assert image().step((*base, *OURS), RUN.chain) is None  # a copy
    assert image().step((*base, OURS[1]), BASE.chain) is None  # a step is left out
    assert image().step((*base, *OURS[:2]), RUN.chain) is None  # on another parent
    assert image().step((*foreign.words([History(created_by="other")]), OURS[0]), BASE.chain) is None
    assert image().step((), None) is None


def test_buildkits_words_are_not_those_of_the_classic_builder() -> None:
    mine = History(created_by="ENV A=b", comment="buildkit.dockerfile.v0", empty_layer=True)
    assert image((HISTORY[0], mine), (BASE,)).step(("RUN base # buildkit", "ENV A=b"), BASE.chain) is None


def test_a_history_that_does_not_fit_the_layers_says_nothing() -> None:
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(), history=HISTORY)
    assert foreign.image(config, (BASE,)) is None
    assert foreign.image(config, (BASE, RUN, RUN)) is None


def test_only_ops_that_words_tell_wholly_may_match() -> None:
    on = OpIndex(0)
    assert foreign.may_match(ExecOp(input=on, args=("make",)))
    assert foreign.may_match(MetaOp(input=on, statement="ENV A=b"))
    assert foreign.may_match(DirectoryOp(input=on, path="/w"))
    for op in (
        ExecOp(input=on, args=("make",), mounts=(ExecMount(kind="cache", target="/c"),)),
        ExecOp(input=on, args=("make",), network="none"),
        ExecOp(input=on, args=("make",), ignore_cache=True),
        CopyOp(input=on, sources=(), destination="/"),
    ):
        assert not foreign.may_match(op)
