"""The frontend: what is missing, which stages, errors in Docker's words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from skiff.engine.builds.dockerfile.errors import DockerfileError
from skiff.engine.builds.dockerfile.frontend import DockerfileFrontend
from skiff.engine.builds.dockerfile.parser import KEYWORDS
from skiff.engine.builds.frontend import BuildOptions
from skiff.engine.builds.plan import BaseImage, ExecOp, Missing, Plan, inputs
from skiff.oci.image import ImageConfig, RootFS, RunConfig
from skiff.oci.platform import Platform

HOST = Platform(architecture="amd64", os="linux")
EMPTY = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS())


def plan(source: str, **options: object) -> Plan:
    wish = BuildOptions(host=HOST, **options)  # type: ignore[arg-type]
    known: dict[BaseImage, ImageConfig] = {}
    for _ in range(5):
        result = DockerfileFrontend().plan(source.encode(), wish, known)
        if isinstance(result, Plan):
            return result
        known |= dict.fromkeys(result.images, EMPTY)
    raise AssertionError("still missing")


def test_all_images_are_asked_for_at_once() -> None:
    source = b"FROM a AS x\nFROM --platform=linux/arm64 b\nCOPY --from=x / /\nCOPY --from=c / /"
    result = DockerfileFrontend().plan(source, BuildOptions(host=HOST), {})
    assert result == Missing(
        (BaseImage("a", HOST), BaseImage("b", Platform(architecture="arm64", os="linux"))),
        (("Step 1/4 : FROM a AS x",), ("Step 2/4 : FROM --platform=linux/arm64 b",)),
    )


def test_only_the_stages_that_the_target_needs() -> None:
    source = "FROM a AS x\nRUN x\nFROM a AS y\nRUN y\nFROM x AS z\nRUN z\nFROM a"
    assert [stage.name for stage in plan(source, target="z").stages] == ["x", "z"]
    assert [stage.name for stage in plan(source, target="Y").stages] == ["y"]
    assert [stage.index for stage in plan(source, target="1").stages] == [1]
    assert len(plan(source).stages) == 1
    with pytest.raises(DockerfileError, match='target stage "zz" could not be found \\(did you mean z\\?\\)'):
        plan(source, target="zz")


def test_independent_stages_share_no_op() -> None:
    made = plan("FROM a AS x\nRUN 1\nFROM a AS y\nRUN 2\nFROM scratch\nCOPY --from=x / /\nCOPY --from=y / /")
    first, second = (op for op in made.ops if isinstance(op, ExecOp))
    assert inputs(first) == inputs(second) == (0,)


def test_a_long_chain_of_stages() -> None:
    source = "FROM a AS s0\n" + "".join(f"FROM s{n} AS s{n + 1}\nRUN {n}\n" for n in range(1500))
    assert plan(source).total == 3001


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("RUN ls", "no build stage in current context"),
        ("ARG x", "dockerfile contains no stages to build"),
        ("FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        ("FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
        ("FROM --foo=b a", "dockerfile parse error on line 1: unknown flag: --foo"),
        ("FROM $X", "base name ($X) should not be blank"),
        (
            "FROM BusyBox",
            "invalid reference format: repository name (library/BusyBox) must be lowercase",
        ),
        ("FROM a AS m\nCOPY --from=m a b", "circular dependency detected on stage: m"),
        ("FROM a\nCOPY --from=3 a b", "invalid from flag value 3: index out of bounds"),
        (
            "FROM a\nCOPY --form=x a b",
            "dockerfile parse error on line 2: unknown flag: --form (did you mean from?)",
        ),
        (
            "FROM a\nCOPY x",
            "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was"
            " provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --chown a b", "dockerfile parse error on line 2: missing a value on flag: --chown"),
        (
            "FROM a\nCOPY --link=maybe a b",
            "dockerfile parse error on line 2: expecting boolean value for flag --link, not: maybe",
        ),
        (
            "FROM a\nCOPY --chmod=999 a b",
            "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777",
        ),
        ("FROM a\nADD --checksum=x a b", "checksum requires HTTP(S) or Git sources"),
        ("FROM a\nENV A", "failed to parse Dockerfile: ENV must have two arguments"),
        (
            "FROM a\nENV A=1 B",
            'failed to parse Dockerfile: Syntax error - can\'t find = in "B". '
            "Must be of the form: name=value",
        ),
        ("FROM a\nENV =x", "dockerfile parse error on line 2: ENV names can not be blank"),
        ("FROM a\nEXPOSE 70000", "Invalid containerPort: 70000"),
        ("FROM a\nEXPOSE 80/xyz", "Invalid proto: xyz"),
        ("FROM a\nSTOPSIGNAL foo", "invalid signal: foo"),
        ("FROM a\nUSER", "dockerfile parse error on line 2: USER requires exactly one argument"),
        (
            "FROM a\nHEALTHCHECK FOO x",
            'dockerfile parse error on line 2: Unknown type "FOO" in HEALTHCHECK (try CMD)',
        ),
        (
            "FROM a\nHEALTHCHECK --interval=0.5us CMD a",
            'dockerfile parse error on line 2: Interval "interval" cannot be less than 1ms',
        ),
        (
            "FROM a\nSHELL x",
            "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
        ),
        (
            "FROM a\nONBUILD ONBUILD RUN x",
            "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FROM a\nRUN --mount=type=foo x", 'unsupported mount type "foo"'),
        (
            "FROM a\nRUN --mount=type=bind,targt=b x",
            "unexpected key 'targt' in 'targt=b' (did you mean target?)",
        ),
        ("FROM a\nRUN --mount=type=bind,target=/a,uid=1 x", 'uid not allowed for "bind" type mounts'),
        ("FROM a\nRUN --mount=type=secret,id=a,from=b x", "secret mount should not have a from"),
        ("FROM a\nRUN --mount=type=ssh,sharing=locked x", "invalid cache sharing set for ssh mount"),
        ("FROM a\nCMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nRUN --mount=type=bind x", 'invalid mount target "/"'),
        (
            "FROM a\nRUN --mount=type=secret,required=false x",
            "invalid secret mount. one of source, target required",
        ),
        (
            "FROM a\nRUN --network=foo x",
            'dockerfile parse error on line 2: invalid network mode "foo"',
        ),
        ("FROM a\nRUN --device=x y", "RUN --device is not supported: a build has no devices of the host"),
    ],
)
def test_errors_in_dockers_words(source: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan(source)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("source", "headings"),
    [
        ("FROM a\nENV A=${", ("Step 2/2 : ENV A=${",)),
        ("ARG X\narg Y\nFROM a\nRUN x\nexpose y", (
            "Step 1/5 : ARG X", "Step 2/5 : arg Y", "Step 5/5 : expose y",
        )),
        ("ARG X\nFROM $X", ("Step 1/2 : ARG X", "Step 2/2 : FROM $X")),
        ("ARG X=${\nFROM a", ("Step 1/2 : ARG X=${",)),
        ("FROM a\nFROM b\nCOPY --from=7 a b", ("Step 3/3 : COPY --from=7 a b",)),
        ("FROM a AS x\nRUN a\nFROM b\nEXPOSE y", ("Step 2/2 : EXPOSE y",)),
        ("FROM a\nRNU x", ()),
        ("FROM a\nENV A", ()),
    ],
)  # fmt: skip
def test_what_docker_has_told_when_it_comes_to_the_error(source: str, headings: tuple[str, ...]) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan(source)
    assert tuple(caught.value.headings) == headings


def test_the_column_is_that_of_the_flag() -> None:
    with pytest.raises(DockerfileError) as caught:
        plan("FROM a\nCOPY --link \\\n  --nope=1 a b")
    assert (caught.value.line, caught.value.column) == (3, 3)


@pytest.mark.parametrize("trigger", ["RNU x", "FROM x", "COPY --nope a b", "EXPOSE x"])
def test_a_trigger_that_fails_points_at_its_from(trigger: str) -> None:
    config = replace(EMPTY, config=RunConfig(on_build=(trigger,)))
    with pytest.raises(DockerfileError) as caught:
        DockerfileFrontend().plan(b"# c\nFROM a", BuildOptions(host=HOST), {BaseImage("a", HOST): config})
    assert caught.value.line == 2


def test_labels_of_the_command_line_come_last() -> None:
    made = plan("FROM a AS x\nFROM x\nLABEL a=1 b=2", labels={"b": "3"})
    assert made.target.image.run.labels == {"a": "1", "b": "3"}
    assert made.stages[0].image.run.labels is None


def test_the_cache_is_left_out_for_named_stages() -> None:
    source = "FROM a AS x\nRUN 1\nFROM x AS y\nRUN 2"
    for names, expected in ((None, [False, False]), ((), [True, True]), (("Y",), [False, True])):
        ops = plan(source, ignore_cache=names).ops
        assert [op.ignore_cache for op in ops if isinstance(op, ExecOp)] == expected


def test_a_check_looks_at_every_stage() -> None:
    source = b"FROM scratch AS x\nUSER $u\nFROM scratch\nUSER $v"
    found = DockerfileFrontend().check(source, BuildOptions(host=HOST), {})
    assert not isinstance(found, Missing)
    assert [(warning.rule, warning.line) for warning in found.warnings] == [
        ("UndefinedVar", 2),
        ("UndefinedVar", 4),
    ]
    assert [warning.line for warning in plan(source.decode()).warnings] == [4]


_TAILS = st.sampled_from(
    ["a", "a b", "A=1", "$A", "${A:-", '["x"]', "[]", "--from=0 a b",
     "--mount=type=cache,target=$A x", "scratch", "scratch AS s",
     "--from=s / /", "80/tcp", "CMD x", "NONE", "RUN x", "/", "..", "<<E\nx\nE", "",
     "https://h/x /",
     "--chmod=7 a b", "--parents a/./b /c", "'", "\\"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KEYWORDS), _TAILS).map(" ".join), max_size=12))
def test_nothing_but_its_own_error(lines: list[str]) -> None:
    try:
        made = plan("\n".join(["FROM scratch AS s", *lines]))
    except DockerfileError as error:
        assert str(error)
        return
    for index, op in enumerate(made.ops):
        assert all(needed < index for needed in inputs(op))
