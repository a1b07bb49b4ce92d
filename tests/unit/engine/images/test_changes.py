import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.images.changes import apply
from skiff.errors import InvalidParameter
from skiff.oci.image import RunConfig


def test_changes() -> None:
    run = apply(
        RunConfig(env=("A=0", "Z=9"), cmd=("old",)),
        [
            'ENTRYPOINT ["/x", "y"]',
            "ENV A=1 B='two words'",
            "env C three words",
            "EXPOSE 80 53/udp",
            "VOLUME /a /b",
            'LABEL k="v w"',
            "USER me",
            "WORKDIR /srv",
            "WORKDIR app",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN make",
        ],
    )
    assert run.entrypoint == ("/x", "y")
    assert run.cmd is None
    assert run.env == ("A=1", "Z=9", "B=two words", "C=three words")
    assert run.exposed_ports == {"80/tcp": {}, "53/udp": {}}
    assert run.volumes == {"/a": {}, "/b": {}}
    assert run.labels == {"k": "v w"}
    assert (run.user, run.working_dir, run.stop_signal) == ("me", "/srv/app", "SIGINT")
    assert run.on_build == ("RUN make",)
    assert apply(run, ["CMD echo hi"]).cmd == ("/bin/sh", "-c", "echo hi")


def test_a_range_of_ports() -> None:
    assert apply(RunConfig(), ["EXPOSE 1-3/UDP"]).exposed_ports == {"1/udp": {}, "2/udp": {}, "3/udp": {}}


def test_a_command_without_a_value() -> None:
    """Odd, but Docker's."""
    assert apply(RunConfig(cmd=("old",)), ["CMD"]).cmd == ("/bin/sh", "-c")
    assert apply(RunConfig(cmd=("old",)), ["ENTRYPOINT"]) == RunConfig(cmd=("old",))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("", " is not a valid change command"),
        ("RUN x", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL NOSUCH", "invalid signal: NOSUCH"),
        ("ENV A", "ENV must have two arguments"),
        ("LABEL A", "LABEL must have two arguments"),
        ("ENV a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("LABEL ='", "invalid change 'LABEL ='': No closing quotation"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 3-1", "Invalid containerPort: 3-1"),
        ("EXPOSE 65536", "Invalid containerPort: 65536"),
        ("EXPOSE 1/x", "Invalid proto: x"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("HEALTHCHECK foo", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
    ],
)
def test_refuses_in_dockers_words(change: str, why: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        apply(RunConfig(), [change])
    assert str(refused.value) == why


@given(st.text(max_size=60) | st.from_regex(r"(CMD|ENV|LABEL|EXPOSE) .{0,40}", fullmatch=True))
def test_any_line(change: str) -> None:
    try:
        apply(RunConfig(), [change])
    except InvalidParameter:
        pass
