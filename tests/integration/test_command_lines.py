"""What people type, with our command line and the stock one: both must see the same engine the same way."""

import io
import os
import re
import shutil
import tarfile
import time
from functools import partial
from pathlib import Path

import pytest

from tests.integration.conftest import Cli
from tests.integration.engines import Engine, wait_for

SLEEP = ("busybox", "sleep", "600")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["nosuchcommand"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_exit_codes(command: list[str], code: int, cli: Cli) -> None:
    assert cli("run", "--rm", "busybox", *command).code == code


def test_what_is_refused_is_125(cli: Cli) -> None:
    assert cli("run", "--rm", "--memory", "1", "busybox", "true").code == 125
    assert cli("run", "--nosuchflag", "busybox").code == 125
    absent = cli("run", "--rm", "--pull", "never", "nosuchimage", "true")
    assert absent.code == 125
    assert "No such image: nosuchimage:latest" in absent.err


def test_environment_directory_user_and_names(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nA=from file\nB=2\n\nTAKEN\n")
    words = ("--env-file", str(tmp_path / "env"), "-e", "B=3", "-w", "/var", "-u", "nobody", "-h", "box")
    script = 'echo "$A|$B|$(pwd)|$(id -un)|$(hostname)|$0"'
    shown = cli("run", "--rm", *words, "--entrypoint", "sh", "busybox", "-c", script, "zero").ok()
    assert shown == "from file|3|/var|nobody|box|zero"


def test_a_container_id_file(cli: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "cid")
    id = cli("create", "--cidfile", file, "busybox").ok()
    assert Path(file).read_text() == id
    again = cli("run", "--cidfile", file, "busybox", "true")
    assert again.code == 125
    assert file in again.err


def test_standard_input_both_ways(cli: Cli) -> None:
    assert cli("run", "--rm", "-i", "busybox", "sort", input=b"b\na\n").ok() == "a\nb"
    # Without -i the command sees an empty input.
    assert cli("run", "--rm", "busybox", "wc", "-c", input=b"unseen").ok() == "0"


def test_fifty_megabytes_into_an_exec(cli: Cli) -> None:
    cli("run", "-d", "--name", "web", *SLEEP).ok()
    assert cli("exec", "-i", "web", "wc", "-c", input=b"x" * 50_000_000).ok() == "50000000"


def test_much_output_arrives_whole(cli: Cli) -> None:
    done = cli("run", "--rm", "busybox", "sh", "-c", "yes | head -c 5000000; yes | head -c 3000000 >&2")
    assert (done.code, len(done.out), len(done.err)) == (0, 5_000_000, 3_000_000)


def test_listing(cli: Cli) -> None:
    header = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES"
    assert cli("ps").ok() == header
    id = cli("run", "-d", "--name", "web", "--label", "a=b", "--expose", "80", *SLEEP).ok()
    assert re.fullmatch("[0-9a-f]{64}", id)
    cli("run", "--name", "done", "busybox", "sh", "-c", "exit 3")
    row = cli("ps").ok().split("\n")[1]
    pattern = rf'{id[:12]}   busybox   "sleep 600"   .* ago   Up .*80/tcp    web'
    assert re.fullmatch(pattern, row), row
    assert len(cli("ps").ok().split("\n")) == 2
    everything = cli("ps", "-a").ok().split("\n")
    assert re.search(r"Exited \(3\) .* ago +done$", everything[1]), everything
    assert cli("ps", "-aq", "--no-trunc", "--filter", "label=a").ok() == id
    assert cli("ps", "-a", "--filter", "exited=3", "--format", "{{.Names}}").ok() == "done"
    assert cli("ps", "-l", "--format", "{{.Names}}: {{.Status}}").ok().startswith("done: Exited (3)")
    assert cli("ps", "-as", "--filter", "name=web", "--format", "{{.Size}}").ok().startswith("0B (virtual ")
    assert '"Names":"web"' in cli("ps", "--format", "{{json .}}").ok()  # `json` alone: since docker 23


def test_logs_tail_since_and_follow(cli: Cli) -> None:
    script = "echo one; echo two >&2; sleep 1.2; echo three; sleep 0.5; echo four"
    cli("run", "-d", "--name", "web", "busybox", "sh", "-c", script).ok()
    followed = cli("logs", "-f", "web")
    assert (followed.out, followed.err) == ("one\nthree\nfour\n", "two\n")
    assert cli("logs", "--tail", "2", "web").out == "three\nfour\n"
    stamped = cli("logs", "-t", "web").out.split("\n")
    third = stamped[1].split(" ")[0]
    assert stamped[1] == f"{third} three"
    assert cli("logs", "--since", third, "web").out == "three\nfour\n"
    assert cli("logs", "--until", third, "web").out.startswith("one\n")
    assert cli("logs", "--since", "1h", "--tail", "1", "web").out == "four\n"
    missing = cli("logs", "absent")
    assert missing.code == 1
    # docker before 23 said less
    assert missing.err.removeprefix("Error response from daemon: ").removeprefix("Error: ") == (
        "No such container: absent\n"
    )


def test_stop_asks_then_kills(cli: Cli) -> None:
    polite = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.1; done"
    cli("run", "-d", "--name", "polite", "busybox", "sh", "-c", polite).ok()
    cli("run", "-d", "--name", "deaf", "busybox", "sh", "-c", polite.replace("echo bye; exit 4", "")).ok()
    for name in ("polite", "deaf"):
        wait_for(partial(_says, cli, name, "ready"), 10, lambda: "not ready")
    assert cli("stop", "polite").ok() == "polite"
    assert cli("wait", "polite").ok() == "4"
    assert cli("logs", "polite").out == "ready\nbye\n"
    begun = time.monotonic()
    cli("stop", "-t", "1", "deaf").ok()
    assert 0.9 < time.monotonic() - begun < 6
    assert cli("inspect", "-f", "{{.State.ExitCode}}", "deaf").ok() == "137"


def test_kill_restart_rename_wait(cli: Cli) -> None:
    cli("run", "-d", "--name", "web", *SLEEP).ok()
    first = cli("inspect", "-f", "{{.State.Pid}}", "web").ok()
    assert cli("restart", "-t", "0", "web").ok() == "web"
    assert cli("inspect", "-f", "{{.State.Pid}}", "web").ok() != first
    cli("rename", "web", "site").ok()
    assert cli("kill", "-s", "KILL", "site").ok() == "site"
    assert cli("wait", "site").ok() == "137"
    assert cli("kill", "site").code == 1
    assert cli("start", "site").ok() == "site"
    assert cli("inspect", "-f", "{{.State.Status}}", "site").ok() == "running"


def test_pause_and_top(cli: Cli) -> None:
    cli("run", "-d", "--name", "web", *SLEEP).ok()
    assert cli("pause", "web").ok() == "web"
    assert "(Paused)" in cli("ps").ok()
    assert cli("exec", "web", "true").code == 1
    assert cli("unpause", "web").ok() == "web"
    lines = cli("top", "web").ok().split("\n")
    assert lines[0].split()[:2] == ["UID", "PID"]
    assert lines[1].endswith("sleep 600")
    assert "sleep" in cli("top", "web", "-o", "pid,comm").ok()


def test_removal(cli: Cli) -> None:
    cli("run", "-d", "--name", "web", "-v", "/anonymous", "-v", "named:/named", *SLEEP).ok()
    anonymous = cli(
        "inspect", "-f", '{{range .Mounts}}{{if eq .Destination "/anonymous"}}{{.Name}}{{end}}{{end}}', "web"
    ).ok()
    refused = cli("rm", "web")
    assert refused.code == 1
    assert "container is running: stop the container before removing or force remove" in refused.err
    assert cli("rm", "-f", "-v", "web").ok() == "web"
    assert anonymous not in cli("volume", "ls", "-q").ok()
    assert "named" in cli("volume", "ls", "-q").ok()
    assert cli("rm", "web").code == 1
    assert cli("rm", "-f", "web").code in (0, 1)


def test_inspection(cli: Cli) -> None:
    id = cli(
        "create", "--name", "web", "-m", "64m", "--cpus", "0.5", "--restart", "on-failure:3", "busybox"
    ).ok()
    assert cli("inspect", "-f", "{{.Id}} {{.Name}} {{.State.Status}}", "web").ok() == f"{id} /web created"
    shape = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"
    assert cli("inspect", "-f", shape, "web").ok() == "67108864 500000000 3"
    assert cli("inspect", "--type", "image", "-f", "{{.Os}}", "busybox").ok() == "linux"
    missing = cli("inspect", "absent")
    assert missing.code == 1
    assert missing.out.strip() == "[]"
    assert "o such object: absent" in missing.err


def test_limits_and_shields_are_real(cli: Cli) -> None:
    shown = cli(
        "run",
        "--rm",
        "--ulimit",
        "nofile=77:77",
        "--init",
        "busybox",
        "sh",
        "-c",
        "ulimit -n; ps -o comm | sed -n 2p",
    )
    assert shown.ok().split("\n")[0] == "77"
    assert cli("run", "--rm", "--read-only", "busybox", "touch", "/x").code == 1
    assert cli("run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "touch", "/t/x").code == 0
    assert cli("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "1", "/tmp").code == 1
    effective = "grep CapEff /proc/self/status"
    assert cli("run", "--rm", "busybox", "sh", "-c", effective).ok().endswith("00000000a80425fb")
    assert (
        cli("run", "--rm", "--cap-drop", "ALL", "busybox", "sh", "-c", effective)
        .ok()
        .endswith("0000000000000000")
    )
    nnp = ("--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status")
    assert cli("run", "--rm", *nnp).ok().split() == ["NoNewPrivs:", "1"]
    seccomp = cli("run", "--rm", "busybox", "grep", "Seccomp:", "/proc/self/status").ok()
    assert seccomp.split() == ["Seccomp:", "2"]


def test_version_and_info(cli: Cli) -> None:
    assert cli("version", "--format", "{{.Server.APIVersion}}").ok() == "1.51"
    assert cli("info", "--format", "{{.OSType}} {{.Driver}}").ok() == "linux overlay2"
    assert "Server" in cli("version").ok()
    assert "Containers: 0" in cli("info").ok()


def test_events_of_a_life(cli: Cli) -> None:
    since = f"{time.time():.6f}"
    cli("run", "--rm", "--name", "short", "busybox", "true").ok()
    words = ("--since", since, "--until", f"{time.time() + 0.3:.6f}", "--filter", "container=short")
    told = cli("events", *words, "--format", "{{.Type}} {{.Action}}").ok().split("\n")
    assert [line for line in told if line.split()[1] in ("create", "attach", "start", "die", "destroy")] == [
        "container create",
        "container attach",
        "container start",
        "container die",
        "container destroy",
    ]


def test_images_come_and_go(cli: Cli, tmp_path: Path) -> None:
    cli("tag", "busybox", "shelf/box:1").ok()
    lines = cli("images").ok().split("\n")
    assert re.split(r"\s{2,}", lines[0]) == ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    assert any(re.match(r"shelf/box +1 ", line) for line in lines)
    assert cli("images", "-q", "shelf/box").ok() in cli("images", "-q", "--no-trunc", "busybox").ok()
    assert cli("rmi", "shelf/box:1").ok() == "Untagged: shelf/box:1"
    missing = cli("rmi", "shelf/box:1")
    assert missing.code == 1
    assert "No such image: shelf/box:1" in missing.err
    cli("create", "--name", "web", "busybox").ok()
    export = tmp_path / "root.tar"
    export.write_bytes(_tar_with_busybox())
    id = cli("import", "-c", 'CMD ["busybox","echo","imported"]', str(export), "shelf/imported").ok()
    assert id.startswith("sha256:")
    assert cli("run", "--rm", "shelf/imported").ok() == "imported"
    assert cli("history", "shelf/imported", "--format", "{{.Comment}}").ok().startswith("Imported from")
    assert f"Deleted: {id}" in cli("rmi", "shelf/imported").ok()


def test_load_says_what_it_loaded(cli: Cli, busybox_archive: bytes, tmp_path: Path) -> None:
    file = tmp_path / "busybox.tar"
    file.write_bytes(busybox_archive)
    assert cli("load", "-i", str(file)).ok().split("\n")[-1] == "Loaded image: busybox:latest"
    assert cli("load", "-q", input=busybox_archive).ok() == "Loaded image: busybox:latest"


def test_stats_once(cli: Cli) -> None:
    cli("run", "-d", "--name", "web", *SLEEP).ok()
    shown = cli("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web").ok()
    assert shown == "web 1"


def test_removal_of_many_at_once(cli: Cli) -> None:
    for name in ("one", "two"):
        cli("create", "--name", name, "busybox").ok()
    done = cli("rm", "one", "absent", "two")
    assert (done.code, done.out) == (1, "one\ntwo\n")
    assert "No such container: absent" in done.err


def test_health_turns_good_and_bad(cli: Cli) -> None:
    check = ("--health-cmd", "test -e /good", "--health-interval", "300ms", "--health-retries", "1")
    cli("run", "-d", "--name", "web", *check, *SLEEP).ok()

    def health() -> str:
        return cli("inspect", "-f", "{{.State.Health.Status}}", "web").ok()

    wait_for(lambda: health() == "unhealthy", 15, health)
    cli("exec", "web", "touch", "/good").ok()
    wait_for(lambda: health() == "healthy", 15, health)
    assert "(healthy)" in cli("ps").ok()


def test_restart_policy(cli: Cli) -> None:
    cli(
        "run", "-d", "--name", "web", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo x; exit 1"
    ).ok()

    def state() -> str:
        return cli("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "web").ok()

    wait_for(lambda: state() == "2 exited", 20, state)
    assert cli("logs", "web").out == "x\nx\nx\n"


def test_publishing_a_port(cli: Cli, engine: Engine) -> None:
    script = "while :; do echo hello | nc -l -p 80; done"
    cli("run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", "busybox", "sh", "-c", script).ok()
    assert cli("port", "web").ok() == "80/tcp -> 127.0.0.1:18080"
    assert "127.0.0.1:18080->80/tcp" in cli("ps").ok()
    ask = "exec 3<>/dev/tcp/127.0.0.1/18080 && head -n1 <&3"
    wait_for(lambda: engine.run("bash", "-c", ask).out == "hello\n", 10, lambda: "no answer")


def _says(cli: Cli, name: str, word: str) -> bool:
    return word in cli("logs", name).out


def _tar_with_busybox() -> bytes:
    program = shutil.which("busybox")
    assert program and os.path.exists(program)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(os.path.realpath(program), "bin/busybox")
    return out.getvalue()
