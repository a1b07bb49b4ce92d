"""Tab completion against a real engine: names, and paths in containers that run or do not."""

from tests.integration.engines import Engine


def tab(engine: Engine, *words: str) -> list[str]:
    lines = engine.skiff("completion", "words", "--", *words).ok().splitlines()
    return [line.partition("\t")[0] for line in lines[:-1]]


def test_names(engine: Engine) -> None:
    engine.skiff("run", "-d", "--name", "runs", "--network", "none", "busybox", "sleep", "600").ok()
    engine.skiff("create", "--name", "rests", "busybox", "true").ok()
    engine.skiff("volume", "create", "kept").ok()
    assert tab(engine, "stop", "r") == ["runs"]
    assert tab(engine, "start", "r") == ["rests"]
    assert tab(engine, "rm", "r") == ["rests", "runs"]
    assert tab(engine, "run", "busy") == ["busybox"]
    assert tab(engine, "run", "-v", "k") == ["kept:"]
    assert tab(engine, "run", "--network=br") == ["--network=bridge"]
    assert tab(engine, "volume", "rm", "") == ["kept"]
    assert "bridge" not in tab(engine, "network", "rm", "")


def test_paths_in_containers(engine: Engine) -> None:
    script = "mkdir -p '/srv/a b/c' && touch /srv/file && ln -s '/srv/a b' /srv/link && ln -s / /srv/up"
    script += " && sleep 600"
    engine.skiff("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script).ok()
    engine.skiff("exec", "box", "sh", "-c", "until [ -L /srv/up ]; do sleep 0.1; done").ok()
    inside = ["box:/srv/a b/", "box:/srv/file", "box:/srv/link/", "box:/srv/up/"]
    assert tab(engine, "cp", "box:/srv/") == inside
    assert tab(engine, "cp", "box:/srv/f") == ["box:/srv/file"]
    assert tab(engine, "cp", ".", "box:/srv/link/") == ["box:/srv/link/c/"]
    assert tab(engine, "cp", "box:/etc/pass") == ["box:/etc/passwd"]
    assert tab(engine, "cp", "box:/no/such/") == []
    assert tab(engine, "cp", "nobody:/") == []
    engine.skiff("kill", "box").ok()
    engine.skiff("wait", "box").ok()
    assert tab(engine, "cp", "box:/srv/") == inside
