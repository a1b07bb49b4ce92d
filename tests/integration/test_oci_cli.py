"""skiff-oci on real bundles: the life of a container as runc's callers drive it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

BUSYBOX = shutil.which("busybox")
SRC = Path(__file__).parents[2] / "src"


class Oci:
    """The command with a root of its own, on one bundle."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bundle = place / "bundle"
        self.parent = f"/skiff-oci-test-{uuid.uuid4().hex[:8]}"

    def __call__(self, *args: str, check: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "skiff.runtime.oci_cli", "--root", str(self.place / "root"), *args]
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        # A created container keeps its streams: as a pipe, stderr would not end before it does.
        with open(self.place / "stderr", "w+") as complaints:
            done = subprocess.run(
                command,
                stderr=complaints,
                text=True,
                timeout=20,
                env={**os.environ, "PYTHONPATH": str(SRC)},
                **options,
            )
            complaints.seek(0)
            done.stderr = complaints.read()
        assert check is None or done.returncode == check, done.stderr
        return done

    def config(self, *command: str, **process: Any) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.place / "template.json").read_text())
        config["process"].update({"args": list(command), "terminal": False, **process})
        config["linux"]["cgroupsPath"] = f"{self.parent}/{uuid.uuid4().hex[:8]}"
        self.write(config)
        return config

    def write(self, config: dict[str, Any]) -> None:
        (self.bundle / "config.json").write_text(json.dumps(config))

    def create(self, id: str) -> Path:
        """stdout goes to a file: a pipe would be held open by the container."""
        out = self.place / f"{id}.out"
        with open(out, "w") as file:
            self("create", "-b", str(self.bundle), id, stdout=file)
        return out

    def status(self, id: str) -> str:
        return str(json.loads(self("state", id).stdout)["status"])

    def wait_for(self, id: str, status: str) -> None:
        deadline = time.monotonic() + 10
        while self.status(id) != status:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def oci(tmp_path: Path) -> Iterator[Oci]:
    assert BUSYBOX, "these tests need busybox-static"
    rootfs = tmp_path / "bundle" / "rootfs"
    for name in ("bin", "proc", "dev", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, rootfs / "bin" / "busybox")
    for name in ("sh", "sleep", "cat", "echo", "true", "id", "pwd", "tty"):
        (rootfs / "bin" / name).symlink_to("busybox")
    made = Oci(tmp_path)
    made("spec", "-b", str(made.bundle))
    (made.bundle / "config.json").rename(tmp_path / "template.json")
    yield made
    for id in made("list", "-q").stdout.split():
        made("delete", "-f", id)
    for point in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]:
        left = point / made.parent.strip("/")
        if left.is_dir():
            assert not [below for below in left.iterdir() if below.is_dir()]
            left.rmdir()


def test_run_returns_the_exit_code_and_leaves_nothing(oci: Oci) -> None:
    config = oci.config("sh", "-c", "echo hello; exit 3")
    done = oci("run", "-b", str(oci.bundle), "one", check=3)
    assert done.stdout == "hello\n"
    assert oci("list", "-q").stdout == ""
    assert not list(Path("/sys/fs/cgroup").glob("*" + config["linux"]["cgroupsPath"]))


def test_create_start_kill_delete(oci: Oci) -> None:
    oci.config("sh", "-c", "echo started; exec sleep 100")
    out = oci.create("one")
    assert oci.status("one") == "created"
    assert out.read_text() == ""
    assert "exists" in oci("create", "-b", str(oci.bundle), "one", check=1).stderr
    oci("start", "one")
    assert oci.status("one") == "running"
    assert "already running" in oci("start", "one", check=1).stderr
    assert "not stopped" in oci("delete", "one", check=1).stderr
    oci("kill", "one", "KILL")
    oci.wait_for("one", "stopped")
    assert out.read_text() == "started\n"
    assert "not running" in oci("kill", "one", check=1).stderr
    oci("delete", "one")
    assert "does not exist" in oci("state", "one", check=1).stderr


def test_delete_force_ends_one_that_was_never_started(oci: Oci) -> None:
    oci.config("true")
    oci.create("one")
    oci("delete", "-f", "one")
    oci("delete", "-f", "one")
    assert oci("list", "-q").stdout == ""


def test_exec_joins_and_returns_its_code(oci: Oci) -> None:
    oci.config("sleep", "100")
    oci.create("one")
    oci("start", "one")
    done = oci(
        "exec",
        "-u",
        "5:6",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "one",
        "sh",
        "-c",
        "id; echo $A; pwd; exit 7",
        check=7,
    )
    assert done.stdout == "uid=5 gid=6\nb\n/tmp\n"
    process = oci.place / "process.json"
    process.write_text(json.dumps({"args": ["cat", "/proc/1/comm"], "cwd": "/", "env": ["PATH=/bin"]}))
    assert oci("exec", "-p", str(process), "one").stdout == "sleep\n"
    assert "not found" in oci("exec", "one", "nonesuch", check=1).stderr


def test_a_command_that_is_not_there(oci: Oci) -> None:
    oci.config("nonesuch")
    assert "executable file not found" in oci("run", "-b", str(oci.bundle), "one", check=1).stderr
    oci.create("two")
    assert "executable file not found" in oci("start", "two", check=1).stderr
    oci.wait_for("two", "stopped")


def test_pause_resume_update_ps(oci: Oci) -> None:
    config = oci.config("sleep", "100")
    oci.create("one")
    oci("start", "one")
    oci("pause", "one")
    assert oci.status("one") == "paused"
    assert "paused" in oci("exec", "one", "true", check=1).stderr
    oci("resume", "one")
    assert oci.status("one") == "running"
    oci("update", "--pids-limit", "17", "one")
    limits = list(Path("/sys/fs/cgroup").glob("*" + config["linux"]["cgroupsPath"] + "/pids.max"))
    assert [path.read_text().strip() for path in limits] == ["17"]
    pid = json.loads(oci("state", "one").stdout)["pid"]
    assert json.loads(oci("ps", "-f", "json", "one").stdout) == [pid]
    assert "sleep 100" in oci("ps", "one").stdout
    assert json.loads(oci("events", "--stats", "one").stdout)["data"]["pids.current"].strip() == "1"


def test_hooks_run_in_their_order(oci: Oci) -> None:
    config = oci.config("sh", "-c", "echo command")
    log = oci.place / "log"
    log.touch()

    def hook(name: str) -> dict[str, Any]:
        script = f'echo {name} $(cat | grep -o \'"status":"[a-z]*"\') >> {log}'
        return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}

    moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    config["hooks"] = {moment: [hook(moment)] for moment in moments}
    oci.write(config)
    oci.create("one")
    created = [line.split()[0] for line in log.read_text().splitlines()]
    assert created == ["prestart", "createRuntime", "createContainer"]
    oci("start", "one")
    oci.wait_for("one", "stopped")
    oci("delete", "one")
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == list(moments)
    assert lines[-1][1] == '"status":"stopped"'


def test_a_failing_hook_undoes_the_container(oci: Oci) -> None:
    config = oci.config("true")
    config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    oci.write(config)
    assert "createRuntime" in oci("create", "-b", str(oci.bundle), "one", check=1).stderr
    assert oci("list", "-q").stdout == ""


def test_a_terminal_goes_over_the_console_socket(oci: Oci) -> None:
    oci.config("sh", "-c", "tty; echo done", terminal=True)
    assert "console socket" in oci("create", "-b", str(oci.bundle), "one", check=1).stderr
    path = str(oci.place / "console.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with open(oci.place / "out", "w") as out:
            oci("create", "-b", str(oci.bundle), "--console-socket", path, "one", stdout=out)
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 100, 1)
    oci("start", "one")
    shown = b""
    try:
        while chunk := os.read(fds[0], 1000):
            shown += chunk
    except OSError:
        pass  # EIO: the last slave is closed
    os.close(fds[0])
    assert shown.split() == [b"/dev/console", b"done"] or shown.split() == [b"/dev/pts/0", b"done"]


def test_refusals_and_the_log(oci: Oci) -> None:
    log = oci.place / "log.json"
    oci("--log", str(log), "--log-format", "json", "state", "nobody", check=1)
    assert json.loads(log.read_text())["msg"] == "container does not exist"
    oci.config("true")
    for flags in (["--no-pivot"], ["--preserve-fds", "3"]):
        assert "not supported" in oci("run", "-b", str(oci.bundle), *flags, "one", check=1).stderr
    assert "invalid container id" in oci("create", "-b", str(oci.bundle), "../x", check=1).stderr
    assert "not found" in oci("create", "-b", str(oci.place), "one", check=1).stderr
    assert json.loads(oci("features").stdout)["ociVersionMax"] == "1.2.0"


def test_a_pid_file(oci: Oci) -> None:
    oci.config("true")
    pid_file = oci.place / "pid"
    with open(oci.place / "out", "w") as out:
        oci("create", "-b", str(oci.bundle), "--pid-file", str(pid_file), "one", stdout=out)
    assert json.loads(oci("state", "one").stdout)["pid"] == int(pid_file.read_text())
