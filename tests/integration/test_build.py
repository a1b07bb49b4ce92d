"""People build images: what they see, what is built again and what is not, and what is left behind."""

import contextlib
import io
import json
import os
import signal
import socket
import stat
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.engines import SKIFF, Engine, wait_for
from tests.integration.terminals import terminal


def context(**files: str | bytes) -> bytes:
    """A tar of files; `__` in a name is a slash, a Dockerfile is `Dockerfile`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 1_600_000_000
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def build(engine: Engine, body: bytes, **query: Any) -> list[dict[str, Any]]:
    reply = engine.client.post("/build", body, **query)
    assert reply.status == 200, reply
    return [json.loads(line) for line in reply.body.splitlines()]


def request(body: bytes) -> bytes:
    """The whole POST of a build."""
    head = (
        "POST /build HTTP/1.1",
        "Host: d",
        "Content-Type: application/x-tar",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("stream", "") for event in events)


def image(events: list[dict[str, Any]]) -> str:
    assert "error" not in events[-1], events[-1]
    found: str = [event["aux"]["ID"] for event in events if "aux" in event][-1]
    return found


def ran(events: list[dict[str, Any]]) -> list[str]:
    """The instructions of the steps that were not cached."""
    found, step = [], ""
    for line in text(events).splitlines():
        if line.startswith("Step "):
            step = line.partition(" : ")[2].split()[0]
        elif line.startswith(" ---> ") and step:  # an ARG before the stages is followed by nothing
            found += [step] if step != "FROM" and line != " ---> Using cache" else []
            step = ""
    return found


POST = """FROM busybox
MAINTAINER "Who I am <me@example.org>"
COPY . /opt/app
WORKDIR /opt/app
ENTRYPOINT ["sh", "cli.sh"]
"""


def test_the_introductions_image(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(POST)
    (tmp_path / "cli.sh").write_text("echo Hello world!\n")
    out = engine.docker("build", "-t", "hello_cli", str(tmp_path)).ok()
    lines = [line for line in out.splitlines() if line]
    assert lines[0].startswith("Sending build context to Docker daemon")
    assert lines[1] == "Step 1/5 : FROM busybox"
    assert lines[-1] == "Successfully tagged hello_cli:latest"
    assert lines[-2].startswith("Successfully built ")
    assert engine.docker("run", "--rm", "--network", "none", "hello_cli").ok() == "Hello world!"
    inspected = json.loads(engine.docker("inspect", "hello_cli").ok())[0]
    assert inspected["Author"] == '"Who I am <me@example.org>"'
    assert inspected["Config"]["WorkingDir"] == "/opt/app"
    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "hello_cli").ok()
    assert history.splitlines()[0].endswith('ENTRYPOINT ["sh" "cli.sh"]')
    assert "Using cache" in engine.docker("build", "-t", "hello_cli", str(tmp_path)).ok()


CACHED = "FROM busybox\nARG WHO=world\nCOPY a b /x/\nRUN cat /x/* > /y\nENV Z=1\nRUN echo $WHO > /z\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"a": "changed"}, ["COPY", "RUN", "ENV", "RUN"]),
        ({"other": "not copied"}, []),
        ({"Dockerfile": CACHED.replace("Z=1", "Z=2")}, ["ENV", "RUN"]),
        ({"Dockerfile": CACHED.replace("> /y", "> /w")}, ["RUN", "ENV", "RUN"]),
    ],
    ids=["nothing", "a copied file", "another file", "a variable", "a command"],
)
def test_what_runs_again(engine: Engine, change: dict[str, str], expected: list[str], request: Any) -> None:
    salt = request.node.callspec.id
    files = {"Dockerfile": CACHED, "a": f"a {salt}", "b": "b"}
    image(build(engine, context(**files)))
    events = build(engine, context(**(files | change)))
    image(events)
    assert ran(events) == expected


def test_touched_files_are_the_same_files(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY f /touched\nRUN echo touched\n")
    (tmp_path / "f").write_text("touched")
    first = engine.docker("build", "-q", str(tmp_path)).ok()
    os.utime(tmp_path / "f", (1, 1))
    assert engine.docker("build", "-q", str(tmp_path)).ok() == first


def test_the_same_inputs_give_the_same_image(engine: Engine) -> None:
    body = context(
        Dockerfile="FROM busybox\nCOPY f /d/f\nRUN date > /dev/null; mkdir /new; echo 1 > /new/f\n", f="f"
    )
    first = image(build(engine, body, nocache=1))
    time.sleep(1.1)  # a clock in the image would tell
    assert image(build(engine, body, nocache=1)) == first


def test_a_failed_build_keeps_its_good_steps(engine: Engine) -> None:
    good = "FROM busybox\nRUN echo kept > /kept\n"
    events = build(engine, context(Dockerfile=good + "RUN exit 7\n"))
    assert events[-1]["errorDetail"] == {
        "code": 7,
        "message": "The command '/bin/sh -c exit 7' returned a non-zero code: 7",
    }
    assert ran(build(engine, context(Dockerfile=good + "RUN true\n"))) == ["RUN"]


def test_why_a_step_runs_again(engine: Engine) -> None:
    dockerfile = "FROM busybox\nCOPY app.py lib.py /why/\n"
    build(engine, context(Dockerfile=dockerfile, **{"app.py": "1", "lib.py": "why"}), why=1, t="why")
    events = build(engine, context(Dockerfile=dockerfile, **{"app.py": "2", "lib.py": "why"}), why=1, t="why")
    assert " ---> Why: file app.py changed\n" in text(events)


@pytest.mark.parametrize("base", ["scratch", "busybox"])
def test_labels_of_the_command_line(engine: Engine, base: str) -> None:
    id = image(build(engine, context(Dockerfile=f"FROM {base}\n"), labels={"asked": "for"}))
    assert json.loads(engine.docker("inspect", id).ok())[0]["Config"]["Labels"]["asked"] == "for"


def test_run_without_a_network_has_a_loopback(engine: Engine) -> None:
    out = text(build(engine, context(Dockerfile="FROM busybox\nRUN --network=none ip addr\n"), nocache=1))
    assert "inet 127.0.0.1/8" in out
    assert "eth0" not in out


def test_stages_and_what_they_hand_on(engine: Engine) -> None:
    dockerfile = (
        "FROM busybox AS a\nRUN echo from a > /a && chown 7:8 /a\n"
        "FROM busybox AS unused\nRUN exit 1\n"
        "FROM busybox\nCOPY --from=a /a /b\nRUN stat -c '%u %g' /b; cat /b\n"
    )
    out = text(build(engine, context(Dockerfile=dockerfile)))
    assert "7 8\nfrom a\n" in out
    assert "unused" not in out


def test_run_leaves_no_mount_points_behind(engine: Engine) -> None:
    before = build(engine, context(Dockerfile="FROM busybox\nRUN true\n"))
    layers = json.loads(engine.docker("inspect", image(before)).ok())[0]["RootFS"]["Layers"]
    assert len(layers) == 1


def test_secrets_reach_the_command_and_nothing_else(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("h0sh-n0b0dy-kn0ws")
    context_folder = tmp_path / "context"
    context_folder.mkdir()
    dockerfile = (
        "FROM busybox\nRUN --mount=type=secret,id=t cp /run/secrets/t /copy && rm /copy; ls /run > /ls\n"
    )
    done = engine.skiff(
        "build",
        "--secret",
        f"id=t,src={tmp_path}/token",
        "-t",
        "secretive",
        "-f",
        "-",
        str(context_folder),
        input=dockerfile.encode(),
    )
    done.ok()
    wait_for(lambda: not os.listdir(f"{engine.root}/data/builds"), 10, lambda: "a context was left behind")
    for directory, _, names in os.walk(f"{engine.root}/data"):
        for name in names:
            file = Path(directory, name)
            with contextlib.suppress(FileNotFoundError):  # swept meanwhile: of earlier builds
                assert not stat.S_ISREG(file.lstat().st_mode) or b"h0sh-n0b0dy" not in file.read_bytes()
    assert engine.docker("run", "--rm", "--network", "none", "secretive", "cat", "/ls").ok() == "secrets"


def test_caches_persist_between_builds(engine: Engine) -> None:
    run = "FROM busybox\nRUN --mount=type=cache,target=/c,id=story echo {} >> /c/log; wc -l < /c/log\n"
    build(engine, context(Dockerfile=run.format(1)))
    assert "\n2\n" in text(build(engine, context(Dockerfile=run.format(2))))


def test_squash_makes_one_layer_and_forgets_what_was_deleted(engine: Engine) -> None:
    dockerfile = "FROM busybox\nRUN echo 1 > /one\nRUN rm /one; echo 2 > /two\n"
    build(engine, context(Dockerfile=dockerfile), squash=1, t="squashed")
    assert len(json.loads(engine.docker("inspect", "squashed").ok())[0]["RootFS"]["Layers"]) == 2
    shown = engine.docker("run", "--rm", "--network", "none", "squashed", "ls", "/one", "/two")
    assert (shown.out, shown.code) == ("/two\n", 1)


@pytest.mark.parametrize(
    "name", ["../escaped", "/../../escaped", "link/escaped"], ids=["dots", "absolute", "through a link"]
)
def test_hostile_contexts_stay_inside(engine: Engine, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/"
        tar.addfile(link)
        for entry, data in (
            (tarfile.TarInfo(name), b"x"),
            (tarfile.TarInfo("Dockerfile"), b"FROM busybox\nCOPY . /\n"),
        ):
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    engine.client.post("/build", out.getvalue())
    for place in (
        "/escaped",
        f"{engine.root}/escaped",
        f"{engine.root}/data/escaped",
        f"{engine.root}/data/builds/escaped",
    ):
        assert not os.path.exists(place)


def test_links_of_a_context_lead_nowhere_outside(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY passwd /stolen\n")
    (tmp_path / "passwd").symlink_to("/etc/hostname")
    assert engine.docker("build", str(tmp_path)).code == 1


def test_clients_that_leave_at_any_moment_leave_nothing(own_engine: Engine) -> None:
    """While a step's container is made, before it starts, and when it runs."""
    tasks = Path(own_engine.root, "run/tasks")
    for number in range(60):
        body = context(Dockerfile=f"FROM busybox\nRUN sleep 600 # {number}\n")
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(own_engine.socket)
            stream.sendall(request(body))
            said = b""
            while b"Running in" not in said:
                said += stream.recv(4096)
            time.sleep(number % 20 / 1000)
        wait_for(lambda: not tasks.exists() or not os.listdir(tasks), 10, lambda: str(os.listdir(tasks)))


def test_a_client_that_leaves_ends_the_build(engine: Engine) -> None:
    body = context(Dockerfile="FROM busybox\nRUN echo before\nRUN sleep 600\n")
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(engine.socket)
    stream.sendall(request(body))
    said = b""
    while b"Step 3/3" not in said or said.count(b"Running in") < 2:
        said += stream.recv(4096)
    stream.close()

    def idle() -> bool:
        tasks = Path(engine.root, "run/tasks")
        return not tasks.exists() or not os.listdir(tasks)

    wait_for(idle, 10, lambda: str(os.listdir(f"{engine.root}/run/tasks")))
    wait_for(lambda: not os.listdir(f"{engine.root}/data/builds"), 10, lambda: "a context was left behind")


def test_an_engine_killed_in_a_build_leaves_nothing_and_keeps_good_steps(own_engine: Engine) -> None:
    good = "FROM busybox\nRUN echo kept > /kept\n"
    body = context(Dockerfile=good + "RUN sleep 600\n")
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(own_engine.socket)
    stream.sendall(request(body))
    said = b""
    while said.count(b"Running in") < 2:
        said += stream.recv(4096)
    time.sleep(0.2)
    own_engine.crash()
    with contextlib.suppress(OSError):
        stream.close()
    own_engine.start()
    assert ran(build(own_engine, context(Dockerfile=good + "RUN true\n"))) == ["RUN"]
    wait_for(lambda: not os.listdir(f"{own_engine.root}/run/tasks"), 10, lambda: "a task was left behind")


def test_prune_forgets_and_df_tells(own_engine: Engine) -> None:
    build(own_engine, context(Dockerfile="FROM busybox\nRUN echo prune > /me\n"))
    held = own_engine.client.get("/system/df").json()["BuildCache"]
    assert [entry["Description"] for entry in held] == ["RUN echo prune > /me"]
    reply = own_engine.client.post("/build/prune", all=1).json()
    assert len(reply["CachesDeleted"]) == 1
    assert own_engine.client.get("/system/df").json()["BuildCache"] == []
    assert ran(build(own_engine, context(Dockerfile="FROM busybox\nRUN echo prune > /me\n"))) == ["RUN"]


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM busybox\nCOPY nothing /x\n", "file not found in build context"),
        ("FROM busybox\nNONSENSE\n", "NONSENSE"),
        ("FROM no.such.host.invalid/x\n", ""),
        ("FROM scratch\n", "No image was generated"),
    ],
)
def test_what_cannot_be_built_is_told(engine: Engine, dockerfile: str, words: str) -> None:
    reply = engine.client.post("/build", context(Dockerfile=dockerfile))
    assert words in reply.body.decode()
    assert b"rror" in reply.body or reply.status >= 400


def test_only_what_changed_is_sent_again(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY . /sent\n")
    (tmp_path / "big").write_bytes(os.urandom(1 << 20))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/small").write_text("one")
    os.link(tmp_path / "d/small", tmp_path / "hard")
    assert sent(engine, tmp_path) > 1 << 20
    assert sent(engine, tmp_path) < 4096
    (tmp_path / "d/small").write_text("two")
    assert sent(engine, tmp_path) < 16384
    shown = engine.skiff("run", "--rm", "--network=none", "kept", "sh", "-c", "cat /sent/d/small /sent/hard")
    assert shown.ok() == "twotwo"
    (tmp_path / "big").unlink()
    sent(engine, tmp_path)
    listed = engine.skiff("run", "--rm", "--network=none", "kept", "ls", "/sent").ok()
    assert listed.split() == ["Dockerfile", "d", "hard"]


def sent(engine: Engine, root: Path) -> float:
    """Bytes that the build said it sent, as it prints them."""
    out = engine.skiff("build", "-t", "kept", str(root)).ok()
    size = out.splitlines()[0].rpartition("  ")[2]
    units = {"MB": 1e6, "kB": 1e3, "B": 1}
    return next(float(size.removesuffix(unit)) * factor for unit, factor in units.items() if unit in size)


def test_files_of_a_kept_context_stay_as_they_are(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY f /a\nCOPY f /b\nRUN echo more >> /a\n")
    for _ in range(2):
        engine.skiff("build", "--no-cache", "-t", "kept", str(tmp_path)).ok()
        shown = engine.skiff(
            "run", "--rm", "--network=none", "kept", "sh", "-c", "cat /a /b; stat -c %i /a /b"
        )
        first, *_, one, other = shown.ok().split()
        assert first == "contentmore"
        assert one != other


def test_directories_beside_the_context(engine: Engine, tmp_path: Path) -> None:
    for name in ("main", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    (tmp_path / "main/Dockerfile").write_text(
        "FROM busybox\nCOPY f /main\nCOPY --from=second f /other\n"
        "RUN --mount=from=second,target=/m cp /m/f /mounted\n"
    )
    given = f"second={tmp_path}/other"
    engine.skiff("build", "-t", "beside", "--build-context", given, str(tmp_path / "main")).ok()
    shown = engine.skiff("run", "--rm", "--network=none", "beside", "cat", "/main", "/other", "/mounted").ok()
    assert shown == "mainotherother"


def at_terminal(engine: Engine, *words: str) -> Any:
    environment = {**engine.client_environment(), "COLUMNS": "80"}
    return terminal([*engine.network.enter, *SKIFF, "build", *words], environment)


def test_a_terminal_shows_steps_and_their_last_words(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN for i in 1 2 3 4 5 6 7 8 9; do echo line-$i; sleep 0.1; done\nRUN exit 9\n"
    )
    with at_terminal(engine, "--no-cache", str(tmp_path)) as shown:
        shown.expect(b"line-9")
        shown.expect("✓ Step 2/3".encode())
        shown.expect("✗ Step 3/3".encode())
        assert shown.end() == 1
    assert b"returned a non-zero code: 9" in shown.shown


def test_ctrl_c_cancels_the_build(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo begun; sleep 600\n")
    with at_terminal(engine, "--no-cache", str(tmp_path)) as shown:
        shown.expect(b"begun")
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() in (130, -signal.SIGINT)
    assert b"Traceback" not in shown.shown
    tasks = Path(engine.root, "run/tasks")
    wait_for(lambda: not tasks.exists() or not os.listdir(tasks), 10, lambda: "a task is left")
    wait_for(lambda: not os.listdir(f"{engine.root}/data/builds"), 10, lambda: "a build is left")
