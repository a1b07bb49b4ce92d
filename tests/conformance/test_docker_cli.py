"""Every command of the stock command line gets an answer it understands: its result, or a sentence."""

from pathlib import Path

import pytest

from tests.conformance.registry import PASSWORD, USER, serving
from tests.integration.engines import Engine

# One call of each reading command on a small engine: words → part of what is printed.
READING = (
    (("ps", "-a", "--format", "{{.Names}}"), "web"),
    (("container", "ls", "-a", "--no-trunc"), "sleep 600"),
    (("images",), "busybox"),
    (("image", "ls", "--digests"), "busybox"),
    (("history", "busybox"), "IMAGE"),
    (("inspect", "web"), '"Status": "running"'),
    (("image", "inspect", "busybox"), '"Os": "linux"'),
    (("network", "ls"), "bridge"),
    (("network", "inspect", "bridge"), '"Driver": "bridge"'),
    (("volume", "ls"), "DRIVER"),
    (("logs", "web"), ""),
    (("port", "web"), ""),
    (("top", "web"), "sleep 600"),
    (("stats", "--no-stream", "web"), "web"),
    (("version",), "Server"),
    (("info",), "Server Version"),
    (("system", "df"), "RECLAIMABLE"),
    (("system", "df", "-v"), "Images space usage"),
    (("system", "info"), "Server Version"),
)


@pytest.mark.parametrize(("words", "part"), READING, ids=[" ".join(words) for words, _ in READING])
def test_reading(words: tuple[str, ...], part: str, engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "web", "busybox", "sleep", "600").ok()
    assert part in engine.docker(*words).ok()


@pytest.mark.parametrize(
    "words",
    [
        ("swarm", "leave"),
        ("swarm", "init"),
        ("node", "ls"),
        ("service", "ls"),
        ("stack", "ls"),
        ("secret", "ls"),
        ("config", "ls"),
    ],
    ids=" ".join,
)
def test_what_is_not_done_is_said(words: tuple[str, ...], engine: Engine) -> None:
    done = engine.docker(*words)
    assert done.code == 1
    assert "page not found" not in done.err
    assert "swarm" in done.err


def test_prunes(engine: Engine) -> None:
    engine.docker("run", "--name", "ended", "busybox", "true").ok()
    assert "Deleted Containers:" in engine.docker("container", "prune", "-f").ok()
    assert "Total reclaimed space" in engine.docker("system", "prune", "-f").ok()
    assert "Total reclaimed space" in engine.docker("volume", "prune", "-f").ok()
    engine.docker("network", "create", "unused").ok()
    assert "unused" in engine.docker("network", "prune", "-f").ok()


def test_an_image_is_built_pushed_and_pulled(own_engine: Engine, tmp_path: Path) -> None:
    engine = own_engine
    (context := tmp_path / "context").mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo made > /made && ln /made /same\nCOPY x /x\n")
    (context / "x").write_text("copied\n")
    with serving(engine, tmp_path / "registry") as address:
        name = f"{address}/team/made:1"
        engine.docker("build", "-t", name, str(context)).ok()
        refused = engine.docker("push", name)
        assert refused.code == 1 and "no basic auth credentials" in refused.err, refused
        login = ("login", "-u", USER, "--password-stdin", address)
        assert "Login Succeeded" in engine.docker(*login, input=PASSWORD.encode()).ok()
        pushed = engine.docker("push", name).ok()
        assert pushed.count(": Pushed") == 3, pushed
        assert engine.docker("push", name).ok().count("Layer already exists") == 3
        before = engine.docker("inspect", "--format", "{{.Id}}", name).ok()
        engine.docker("rmi", name).ok()
        engine.docker("system", "prune", "-af").ok()
        engine.docker("pull", name).ok()
        assert engine.docker("inspect", "--format", "{{.Id}}", name).ok() == before
        assert engine.docker("run", "--rm", name, "cat", "/same", "/x").ok() == "made\ncopied"
