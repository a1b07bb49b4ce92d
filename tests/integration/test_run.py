"""People run things, and see their output and exit code."""

import json
import socket
import tarfile
import time

import pytest

from tests.integration.client import read_to_end, unframed
from tests.integration.engines import Engine, wait_for


def test_run_prints_what_the_command_prints(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "--network", "none", "busybox", "echo", "hello").ok() == "hello"
    assert engine.docker("ps", "-aq").ok() == ""


def test_streams_stay_apart(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")


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
def test_exit_codes(command: list[str], code: int, engine: Engine) -> None:
    assert engine.docker("run", "--rm", "--network", "none", "busybox", *command).code == code


def test_what_the_engine_refuses_is_125(engine: Engine) -> None:
    done = engine.docker("run", "--rm", "--network", "none", "--memory", "1", "busybox", "true")
    assert done.code == 125


def test_stdin_is_carried_to_its_end(engine: Engine) -> None:
    words = ("run", "--rm", "-i", "--network", "none", "busybox", "wc", "-c")
    assert engine.docker(*words, input=b"x" * 3_000_000).ok() == "3000000"


def test_a_terminal_has_a_size_and_one_stream(engine: Engine) -> None:
    reply = engine.client.post(
        "/containers/create",
        {
            "Image": "busybox",
            "Tty": True,
            "OpenStdin": True,
            "Cmd": ["sh", "-c", "read x; stty size; echo $x >&2"],
            "HostConfig": {"NetworkMode": "none"},
        },
    )
    id = reply.json()["Id"]
    stream, kind = engine.client.stream(f"/containers/{id}/attach", stream=1, stdin=1, stdout=1, stderr=1)
    assert kind == "application/vnd.docker.raw-stream"
    assert engine.client.post(f"/containers/{id}/start").status == 204
    assert engine.client.post(f"/containers/{id}/resize", h=33, w=77).status == 200
    stream.sendall(b"typed\n")
    text = read_to_end(stream).decode()
    assert "33 77" in text
    assert text.rstrip().endswith("typed")


def test_detached_containers_are_listed_stopped_and_removed(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "600").ok()
    assert engine.docker("ps", "--format", "{{.Names}} {{.State}}").ok() == "web running"
    assert engine.docker("inspect", "-f", "{{.State.Running}} {{.Id}}", "web").ok() == f"true {id}"
    engine.docker("stop", "-t", "0", "web").ok()
    assert engine.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web").ok() == "exited 137"
    engine.docker("start", "web").ok()
    refused = engine.docker("rm", "web")
    assert refused.code == 1
    assert "container is running" in refused.err
    engine.docker("rm", "-f", "web").ok()
    assert engine.docker("ps", "-aq").ok() == ""


def test_a_taken_name_is_refused(engine: Engine) -> None:
    engine.docker("create", "--name", "web", "--network", "none", "busybox").ok()
    again = engine.docker("create", "--name", "web", "--network", "none", "busybox")
    assert again.code == 1
    assert 'The container name "/web" is already in use by container' in again.err


def test_logs_keep_what_was_said(engine: Engine) -> None:
    id = engine.docker(
        "run",
        "-d",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo one; echo two >&2; sleep 0.1; echo three",
    ).ok()
    engine.docker("wait", id).ok()
    logs = engine.docker("logs", id)
    assert (logs.out, logs.err) == ("one\nthree\n", "two\n")
    assert engine.docker("logs", "--tail", "1", id).out == "three\n"
    stamped = engine.docker("logs", "-t", "--tail", "1", id).out
    assert stamped.endswith("Z three\n")


def test_logs_follow_until_the_end(engine: Engine) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.2; done"
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sh", "-c", script).ok()
    assert engine.docker("logs", "-f", id).out == "1\n2\n3\n"


def test_exec_joins_a_running_container(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "600").ok()
    assert engine.docker("exec", "web", "echo", "hello").ok() == "hello"
    assert engine.docker("exec", "-i", "web", "wc", "-c", input=b"12345").ok() == "5"
    assert (
        engine.docker("exec", "-e", "A=b", "-w", "/etc", "web", "sh", "-c", "echo $A; pwd").ok() == "b\n/etc"
    )
    assert engine.docker("exec", "-u", "nobody", "web", "id", "-u").ok() == "65534"
    assert engine.docker("exec", "web", "sh", "-c", "exit 9").code == 9
    missing = engine.docker("exec", "web", "nosuchcommand")
    assert missing.code == 127
    assert "nosuchcommand" in missing.out + missing.err
    detached = engine.docker("exec", "-d", "web", "touch", "/made")
    assert detached.code == 0
    wait_for(lambda: engine.docker("exec", "web", "test", "-e", "/made").code == 0, 5, lambda: "no /made")


def test_an_exec_s_code_can_be_asked_afterwards(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "600").ok()
    wish = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", "echo a; echo b >&2; exit 3"]}
    made = engine.client.post(f"/containers/{id}/exec", wish)
    assert made.status == 201
    exec_id = made.json()["Id"]
    stream, kind = engine.client.stream(f"/exec/{exec_id}/start", {"Detach": False, "Tty": False})
    assert kind == "application/vnd.docker.multiplexed-stream"
    assert unframed(read_to_end(stream)) == {1: b"a\n", 2: b"b\n"}
    told = wait_for(
        lambda: (about := engine.client.get(f"/exec/{exec_id}/json").json())["Running"] is False and about,
        5,
        lambda: "the exec runs on",
    )
    assert told["ExitCode"] == 3


def test_attach_sees_what_comes_next(engine: Engine) -> None:
    wish = {
        "Image": "busybox",
        "Cmd": ["cat"],
        "OpenStdin": True,
        "StdinOnce": True,
        "HostConfig": {"NetworkMode": "none"},
    }
    id = engine.client.post("/containers/create", wish).json()["Id"]
    assert engine.client.post(f"/containers/{id}/start").status == 204
    stream, _ = engine.client.stream(f"/containers/{id}/attach", stream=1, stdin=1, stdout=1, stderr=1)
    stream.sendall(b"hello\n")
    assert stream.recv(100) == b"\x01\0\0\0\0\0\0\x06hello\n"
    stream.shutdown(socket.SHUT_WR)
    assert read_to_end(stream) == b""


def test_wait_answers_before_the_end_and_tells_it(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sh", "-c", "sleep 0.3; exit 4").ok()
    begun = time.monotonic()
    reply = engine.client.post(f"/containers/{id}/wait", condition="next-exit")
    assert reply.json() == {"StatusCode": 4}
    assert time.monotonic() - begun > 0.1


def test_pause_and_unpause(engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "web", "--network", "none", "busybox", "sleep", "600").ok()
    engine.docker("pause", "web").ok()
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "web").ok() == "paused"
    engine.docker("unpause", "web").ok()
    assert engine.docker("exec", "web", "echo", "awake").ok() == "awake"


def test_volumes_outlive_their_containers(engine: Engine) -> None:
    run = ("run", "--rm", "--network", "none", "-v", "data:/data", "busybox")
    engine.docker(*run, "sh", "-c", "echo kept > /data/file").ok()
    assert engine.docker(*run, "cat", "/data/file").ok() == "kept"
    assert engine.docker("volume", "ls", "-q").ok() == "data"


def test_events_tell_a_container_s_life(engine: Engine) -> None:
    since = str(time.time())
    engine.docker("run", "--rm", "--network", "none", "--name", "shortlived", "busybox", "true").ok()
    time.sleep(0.1)
    words = ("events", "--since", since, "--until", str(time.time()), "--filter", "container=shortlived")
    told = engine.docker(*words, "--format", "{{.Action}}").ok().split("\n")
    assert [act for act in told if act in ("create", "start", "die", "destroy")] == [
        "create",
        "start",
        "die",
        "destroy",
    ]


def test_older_programs_find_their_mounts(engine: Engine) -> None:
    """/etc/mtab is a link that the container has, and neither a change of its user's nor a part of images."""
    engine.skiff("run", "--name=mtab", "--network=none", "busybox", "sh", "-c", "grep -q proc /etc/mtab").ok()
    assert engine.skiff("diff", "mtab").ok() == ""
    engine.skiff("commit", "mtab", "committed").ok()
    engine.skiff("export", "mtab", "-o", f"{engine.root}/mtab.tar").ok()
    with tarfile.open(f"{engine.root}/mtab.tar") as archive:
        assert archive.getmember("etc/mtab").linkname == "/proc/mounts"
    engine.skiff("save", "committed", "-o", f"{engine.root}/image.tar").ok()
    with tarfile.open(f"{engine.root}/image.tar") as image:
        (manifest,) = json.loads(image.extractfile("manifest.json").read())  # type: ignore[union-attr]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as archive:
                assert "etc/mtab" not in archive.getnames()
    engine.skiff("rm", "mtab").ok()
    engine.skiff("rmi", "committed").ok()
