"""skiff explain: the timeline of a real container, and an engine that watches nothing afterwards."""

import json
from pathlib import Path

from tests.integration.engines import Engine


def test_every_layer_of_a_run_is_in_its_timeline(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    words = ("run", "--rm", "--memory", "64m", "-p", "127.0.0.1::80", "busybox", "echo", "hello")
    shown = engine.skiff("explain", "--chrome", str(file), *words).ok()
    assert shown.startswith("hello\n")
    for part in (
        "engine   POST /containers/create",
        "writable layer for",
        "new namespaces: net",
        "$ ip addr add 172.17.0.",
        "$ nft 'add ",
        "config.json of",
        "$ echo 67108864 > /sys/fs/cgroup/",
        "monitor  clone a process",
        "into new namespaces: ",
        "init     mount proc on /proc",
        "$ mount -t proc -o nosuid,nodev,noexec proc /proc",
        "$ mknod -m 666 /dev/null c 1 3",
        "$ pivot_root . . && umount -l .",
        "init     load the system call filter: ",
        "capabilities from the bounding set",
        "init     execve /bin/echo",
        "$ exec echo hello",
        "engine   what follows the exit of",
        "engine     take the container off its networks",
        "engine     remove layer",
    ):
        assert part in shown, f"{part!r} is not in\n{shown}"
    spans = [event for event in json.loads(file.read_text())["traceEvents"] if event["ph"] == "X"]
    assert len(spans) > 100
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in spans)


def test_exec_kill_and_what_is_not_traced(engine: Engine) -> None:
    engine.skiff("run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "600").ok()
    shown = engine.skiff("explain", "exec", "box", "echo", "hi").ok()
    assert shown.startswith("hi\n")
    for part in ("ask the monitor: Exec", "execve /bin/echo"):
        assert part in shown, shown
    joins = ("exec     join control group", "monitor  clone a process in its control group")  # v1, v2
    assert any(part in shown for part in joins), shown
    done = engine.skiff("--trace", "pause", "box")
    assert done.ok() == "box"
    assert "freezer.state = FROZEN" in done.err or "cgroup.freeze = 1" in done.err
    engine.skiff("unpause", "box").ok()
    # nothing of the traces is left, and a request without the header leaves none
    id = engine.skiff("inspect", "-f", "{{.Id}}", "box").ok()
    engine.skiff("exec", "box", "true").ok()
    assert not list(Path(engine.root, "run").rglob("trace-*")), id
    assert engine.client.get("/skiff/traces/0011223344556677").status == 404


def test_a_start_that_fails_shows_where(engine: Engine) -> None:
    done = engine.skiff("explain", "run", "--rm", "--network", "none", "busybox", "/no/such/program")
    assert done.code == 127
    assert "no such file or directory" in done.err
    assert "init     mount proc on /proc" in done.out
    assert "execve" not in done.out


def test_a_trace_with_a_name_that_is_none_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"HttpHeaders": {"X-Skiff-Trace": "../x"}}')
    done = engine.skiff("--config", str(tmp_path), "ps")
    assert done.code == 1
    assert "hexadecimal digits as the name of a trace" in done.err
