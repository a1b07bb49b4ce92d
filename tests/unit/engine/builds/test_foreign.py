"""Images that another builder made, as a cache: whose words match, and what is taken then."""

from skiff.engine.builds import foreign
from skiff.engine.builds.foreign import ForeignImage
from skiff.engine.builds.plan import CopyOp, DirectoryOp, ExecMount, ExecOp, MetaOp, OpIndex
from skiff.engine.images.names import LayerRow
from skiff.oci.digest import ChainID, DiffID
from skiff.oci.image import History, ImageConfig, RootFS

BASE, RUN, WORKDIR = (
    LayerRow(ChainID(f"sha256:{one * 64}"), DiffID(f"sha256:{one * 64}"), 1) for one in "123"
)
HISTORY = (
    History(created_by="base"),
    History(created_by="/bin/sh -c #(nop)  ENV A=b", empty_layer=True),
    History(created_by="|1 WHO=me /bin/sh -c make"),
    History(created_by="/bin/sh -c #(nop) WORKDIR /w"),
    History(created_by="/bin/sh -c #(nop) COPY file:1234 in / ", empty_layer=True),
)
OURS = ["ENV A=b", "RUN |1 WHO=me /bin/sh -c make # buildkit", "WORKDIR /w", "COPY x / # buildkit"]
ON = OpIndex(0)
ENV_OP, RUN_OP, WORKDIR_OP = (
    MetaOp(input=ON, statement="ENV A=b"),
    ExecOp(input=ON, args=("make",)),
    DirectoryOp(input=ON, path="/w"),
)
COPY_OP = CopyOp(input=ON, sources=(), destination="/")


def image(
    history: tuple[History, ...] = HISTORY, layers: tuple[LayerRow, ...] = (BASE, RUN, WORKDIR)
) -> ForeignImage:
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(), history=history)
    found = foreign.image(config, layers)
    assert found is not None
    return found


def test_steps_that_it_came_of_are_taken_in_order() -> None:
    base = foreign.words(HISTORY[:1])
    assert image().step(ENV_OP, (*base, *OURS[:1]), BASE.chain) == (None,)
    assert image().step(RUN_OP, (*base, *OURS[:2]), BASE.chain) == (RUN,)
    assert image().step(WORKDIR_OP, (*base, *OURS[:3]), RUN.chain) == (WORKDIR,)


def test_what_it_did_not_come_of_is_not() -> None:
    base = foreign.words(HISTORY[:1])
    assert image().step(COPY_OP, (*base, *OURS), WORKDIR.chain) is None
    assert image().step(RUN_OP, (*base, OURS[1]), BASE.chain) is None  # a step is left out
    assert image().step(RUN_OP, (*base, *OURS[:2]), RUN.chain) is None  # on another parent
    other = foreign.words([History(created_by="other")])
    assert image().step(ENV_OP, (*other, OURS[0]), BASE.chain) is None
    assert image().step(ENV_OP, (), None) is None


def test_buildkits_words_are_not_those_of_the_classic_builder() -> None:
    mine = History(created_by="ENV A=b", comment="buildkit.dockerfile.v0", empty_layer=True)
    words = ("RUN base # buildkit", "ENV A=b")
    assert image((HISTORY[0], mine), (BASE,)).step(ENV_OP, words, BASE.chain) is None


def test_a_history_that_does_not_fit_the_layers_says_nothing() -> None:
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(), history=HISTORY)
    assert foreign.image(config, (BASE, RUN)) is None
    assert foreign.image(config, (BASE, RUN, RUN, RUN)) is None


def test_a_squashed_image_does_not_tell_what_its_steps_did() -> None:
    steps = [History(created_by=one.created_by, empty_layer=True) for one in HISTORY[1:]]
    merged = History(comment="merge sha256:1 to sha256:2")
    config = ImageConfig(
        architecture="amd64", os="linux", rootfs=RootFS(), history=(HISTORY[0], *steps, merged)
    )
    assert foreign.image(config, (BASE, RUN)) is None


def test_files_may_have_changed_where_no_layer_says_so() -> None:
    squashed = tuple(History(created_by=one.created_by, empty_layer=True) for one in HISTORY[1:])
    silent = image((HISTORY[0], *squashed, History(created_by="merge")), (BASE, RUN))
    base = foreign.words(HISTORY[:1])
    assert silent.step(ENV_OP, (*base, *OURS[:1]), BASE.chain) == (None,)
    assert silent.step(RUN_OP, (*base, *OURS[:2]), BASE.chain) is None
    assert silent.step(WORKDIR_OP, (*base, *OURS[:3]), BASE.chain) is None


def test_only_ops_that_words_tell_wholly_may_match() -> None:
    assert all(foreign.may_match(op) for op in (ENV_OP, RUN_OP, WORKDIR_OP))
    for op in (
        ExecOp(input=ON, args=("make",), mounts=(ExecMount(kind="cache", target="/c"),)),
        ExecOp(input=ON, args=("make",), network="none"),
        ExecOp(input=ON, args=("make",), ignore_cache=True),
        COPY_OP,
    ):
        assert not foreign.may_match(op)
