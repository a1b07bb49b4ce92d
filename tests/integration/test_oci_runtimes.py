"""People choose another OCI runtime, and nothing else changes for them."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.client import read_to_end
from tests.integration.engines import Engine, wait_for

pytestmark = pytest.mark.root
PROGRAMS = [name for name in ("runc", "crun") if shutil.which(name)]


@pytest.fixture(scope="module")
def other(busybox_archive: bytes) -> Iterator[Engine]:
    """An engine that knows runc and crun as runtimes, and one that is not there."""
    engine = Engine()
    runtimes = {f"the-{name}": {"path": shutil.which(name)} for name in PROGRAMS}
    runtimes["broken"] = {"path": "/no/such/runtime"}
    Path(engine.root, "daemon.json").write_text(json.dumps({"runtimes": runtimes}))
    try:
        engine.start()
        assert engine.client.post("/images/load", busybox_archive).status == 200
        yield engine
    finally:
        engine.close()


@pytest.fixture(params=PROGRAMS)
def run(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return ("run", "--network", "none", "--runtime", f"the-{request.param}")


def test_output_input_and_exit_codes(other: Engine, run: tuple[str, ...]) -> None:
    done = other.docker(
        *run, "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 7", input=b"hello"
    )
    assert (done.code, done.out, done.err) == (7, "hello", "err\n")


def test_a_missing_command_is_127(other: Engine, run: tuple[str, ...]) -> None:
    done = other.docker(*run, "--rm", "busybox", "no-such-command")
    assert done.code == 127
    assert "no-such-command" in done.err


def test_it_is_that_runtime_and_inspect_says_so(other: Engine, run: tuple[str, ...]) -> None:
    id = other.docker(*run, "-d", "busybox", "sleep", "60").ok()
    detail = other.client.get(f"/containers/{id}/json").json()
    assert detail["HostConfig"]["Runtime"] == run[-1]
    state = Path(other.root, "run", "tasks", id, "foreign", "root")
    assert state.is_dir()
    assert f"{other.root}/run/tasks/{id}/rootfs" not in Path("/proc/self/mountinfo").read_text()


def test_the_verbs_of_a_running_container(other: Engine, run: tuple[str, ...]) -> None:
    script = "trap 'exit 3' TERM; while true; do sleep 0.05; done"
    id = other.docker(*run, "-d", "-m", "64m", "busybox", "sh", "-c", script).ok()
    assert other.docker("exec", "-i", id, "sh", "-c", "cat; exit 5", input=b"in").code == 5
    assert other.docker("exec", id, "hostname").ok() == id[:12]
    other.docker("pause", id).ok()
    assert other.docker("inspect", "-f", "{{.State.Status}}", id).ok() == "paused"
    other.docker("unpause", id).ok()
    assert "while true" in other.docker("top", id).ok()
    other.docker("update", "--pids-limit", "33", id).ok()
    assert other.docker("exec", id, "cat", "/sys/fs/cgroup/pids/pids.max").ok() == "33"
    other.docker("stop", "-t", "5", id).ok()
    assert other.docker("inspect", "-f", "{{.State.ExitCode}}", id).ok() == "3"
    other.docker("start", id).ok()
    other.docker("rm", "-f", id).ok()


def test_a_terminal(other: Engine, run: tuple[str, ...]) -> None:
    body = {
        "Image": "busybox",
        "Tty": True,
        "OpenStdin": True,
        "Cmd": ["sh", "-c", "read x; stty size; tty; echo $x"],
        "HostConfig": {"NetworkMode": "none", "Runtime": run[-1]},
    }
    id = other.client.post("/containers/create", body).json()["Id"]
    stream, _ = other.client.stream(f"/containers/{id}/attach", stream=1, stdin=1, stdout=1)
    assert other.client.post(f"/containers/{id}/start").status == 204
    assert other.client.post(f"/containers/{id}/resize", h=33, w=77).status == 200
    stream.sendall(b"typed\n")
    text = read_to_end(stream).decode()
    assert "33 77" in text
    assert "/dev/pts/0" in text or "/dev/console" in text
    assert text.rstrip().endswith("typed")


def test_it_survives_the_engine(other: Engine, run: tuple[str, ...]) -> None:
    id = other.docker(*run, "-d", "busybox", "sh", "-c", "sleep 1.5; exit 9").ok()
    other.crash()
    other.start()
    assert other.docker("wait", id).ok() == "9"
    wait_for(lambda: not os.path.exists(f"/sys/fs/cgroup/pids{other.cgroup}/{id}"), 5, lambda: "cgroup left")


def test_a_runtime_that_is_not_there(other: Engine) -> None:
    done = other.docker("run", "--rm", "--network", "none", "--runtime", "broken", "busybox", "true")
    assert done.code in (125, 127)
    assert "/no/such/runtime" in done.err
    unknown = other.docker("run", "--rm", "--network", "none", "--runtime", "nosuch", "busybox", "true")
    assert unknown.code == 125
    assert "unknown or invalid runtime name: nosuch" in unknown.err
