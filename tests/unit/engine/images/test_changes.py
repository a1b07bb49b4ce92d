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


@pytest.mark.parametrize("change", ["", "CMD", "RUN x", "ENV A", "LABEL ='", "FROM x"])
def test_refuses(change: str) -> None:
    with pytest.raises(InvalidParameter):
        apply(RunConfig(), [change])


@given(st.text(max_size=60) | st.from_regex(r"(CMD|ENV|LABEL|EXPOSE) .{0,40}", fullmatch=True))
def test_any_line(change: str) -> None:
    try:
        apply(RunConfig(), [change])
    except InvalidParameter:
        pass
