"""Every command of the stock command line gets an answer it understands: its result, or a sentence."""

import pytest

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
