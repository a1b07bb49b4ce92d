"""Commands as whole programs against a fake engine: what is asked of it, what is printed, the exit code."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply, Request

SRC = Path(__file__).parents[3] / "src"
PROGRAM = str(SRC / "skiff/cli/__main__.py")
HEAVY = {
    "json",
    "re",
    "argparse",
    "socket",
    "typing",
    "enum",
    "dataclasses",
    "msgspec",
    "logging",
    "datetime",
}
ID = "d6f5fd6a2f1a" + "0" * 52

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(str(tmp_path / "engine.sock")) as running:
        yield running


@pytest.fixture
def skiff(engine: FakeEngine, tmp_path: Path) -> Run:
    def run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        environment = {"DOCKER_HOST": engine.url, "HOME": str(tmp_path), "TZ": "UTC", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-IS", PROGRAM, *words]
        return subprocess.run(
            command, env=environment, input=stdin, capture_output=True, text=True, timeout=30
        )

    return run


def always(body: object, status: int = 200) -> Callable[[Request], Reply]:
    return lambda request: Reply(status, body)


def missing(request: Request) -> Reply:
    return Reply(404, {"message": f"No such container: {request.path.split('/')[2]}"})


def test_stop_tells_each_name_and_goes_on_after_a_failure(engine: FakeEngine, skiff: Run) -> None:
    engine.route("POST /containers/[^/]+/stop")(missing)
    engine.route("POST /containers/(a|c)/stop")(always(None, 204))
    done = skiff("stop", "-t", "3", "a", "b", "c")
    assert done.stdout == "a\nc\n"
    assert done.stderr == "Error response from daemon: No such container: b\n"
    assert done.returncode == 1
    assert engine.requests[0].query["t"] == ["3"]


def test_stop_leaves_the_timeout_to_the_engine(engine: FakeEngine, skiff: Run) -> None:
    engine.route("POST /containers/[^/]+/stop")(always(None, 204))
    assert skiff("container", "stop", "a").stdout == "a\n"
    assert "t" not in engine.requests[0].query


@pytest.mark.parametrize("verb", ["restart", "kill", "pause", "unpause"])
def test_verbs_that_echo_names(engine: FakeEngine, skiff: Run, verb: str) -> None:
    engine.route(f"POST /containers/[^/]+/{verb}")(always(None, 204))
    assert skiff(verb, "a", "b").stdout == "a\nb\n"
    assert engine.paths() == [f"POST /containers/a/{verb}", f"POST /containers/b/{verb}"]


def test_rm_passes_its_flags(engine: FakeEngine, skiff: Run) -> None:
    engine.route("DELETE /containers/[^/]+")(always(None, 204))
    assert skiff("rm", "-fv", "/web").stdout == "/web\n"
    assert engine.requests[0].query == {"force": ["1"], "v": ["1"]}


def test_ps_asks_and_filters(engine: FakeEngine, skiff: Run) -> None:
    engine.route("GET /containers/json")(always([]))
    assert skiff("ps", "-a", "-n", "2", "-f", "label=a=b", "-f", "Label=c").stdout.startswith(
        "CONTAINER ID   IMAGE"
    )
    query = engine.requests[0].query
    assert (query["all"], query["limit"]) == (["1"], ["2"])
    assert json.loads(query["filters"][0]) == {"label": ["a=b", "c"]}


def test_ps_asks_for_sizes_when_a_template_shows_them(engine: FakeEngine, skiff: Run) -> None:
    engine.route("GET /containers/json")(always([]))
    skiff("ps", "--format", "{{.Size}}")
    assert engine.requests[0].query["size"] == ["1"]


def test_inspect_prints_what_it_found_and_names_the_rest(engine: FakeEngine, skiff: Run) -> None:
    engine.route("GET /.*")(always({"message": "No such thing"}, 404))
    engine.route("GET /volumes/data")(
        always({"Name": "data", "Labels": None, "Nested": {"a": [1, {}], "b": []}})
    )
    done = skiff("inspect", "data", "nope")
    assert json.loads(done.stdout) == [{"Name": "data", "Labels": None, "Nested": {"a": [1, {}], "b": []}}]
    assert done.stdout.startswith('[\n    {\n        "Name": "data",\n')
    assert (done.stderr, done.returncode) == ("Error: No such object: nope\n", 1)
    assert skiff("volume", "inspect", "-f", "{{.Name}}!", "data").stdout == "data!\n"


def test_a_template_that_cannot_be_is_64(engine: FakeEngine, skiff: Run) -> None:
    done = skiff("inspect", "-f", "{{", "x")
    assert (done.stderr, done.returncode) == ("template parsing error: template: :1: unclosed action\n", 64)
    assert not engine.requests


def test_rmi_tells_what_went(engine: FakeEngine, skiff: Run) -> None:
    engine.route("DELETE /images/.+")(always([{"Untagged": "a:1"}, {"Deleted": "sha256:2"}]))
    assert skiff("rmi", "-f", "a:1").stdout == "Untagged: a:1\nDeleted: sha256:2\n"
    assert engine.requests[0].query["force"] == ["1"]


def stream(*messages: dict[str, Any]) -> Callable[[Request], Reply]:
    return lambda request: Reply(200, chunks=[json.dumps(message).encode() + b"\r\n" for message in messages])


def test_pull_shows_lines_and_leaves_bars_out(engine: FakeEngine, skiff: Run) -> None:
    engine.route("POST /images/create")(
        stream(
            {"status": "Pulling from library/busybox", "id": "latest"},
            {"status": "Pulling fs layer", "progressDetail": {}, "id": "5cc84ad355aa"},
            {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "5cc84ad355aa"},
            {"status": "Pull complete", "progressDetail": {}, "id": "5cc84ad355aa"},
            {"status": "Digest: sha256:1"},
            {"status": "Status: Downloaded newer image for busybox:latest"},
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "skiff.cli", "-H", engine.url, "pull", "busybox"],
        env={"PYTHONPATH": str(SRC), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.splitlines() == [
        "Using default tag: latest",
        "latest: Pulling from library/busybox",
        "5cc84ad355aa: Pulling fs layer",
        "5cc84ad355aa: Pull complete",
        "Digest: sha256:1",
        "Status: Downloaded newer image for busybox:latest",
        "docker.io/library/busybox:latest",
    ]
    assert engine.requests[0].query == {"fromImage": ["busybox"], "tag": ["latest"]}


def test_load_sends_the_file_and_fails_by_the_stream(engine: FakeEngine, skiff: Run, tmp_path: Path) -> None:
    engine.route("POST /images/load")(stream({"errorDetail": {"message": "not a tar"}, "error": "not a tar"}))
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"x" * 300_000)
    done = skiff("load", "-i", str(archive))
    assert (done.stderr, done.returncode) == ("not a tar\n", 1)
    assert engine.requests[0].body == b"x" * 300_000
    assert skiff("load", "-i", "/nope").stderr == "open /nope: no such file or directory\n"


def test_save_writes_a_whole_file(engine: FakeEngine, skiff: Run, tmp_path: Path) -> None:
    engine.route("GET /images/get")(lambda request: Reply(200, chunks=[b"ab", b"cd"]))
    assert skiff("save", "-o", str(tmp_path / "out.tar"), "a", "b").returncode == 0
    assert (tmp_path / "out.tar").read_bytes() == b"abcd"
    assert engine.requests[0].query["names"] == ["a", "b"]
    assert skiff("save", "a").stdout == "abcd"


def test_prune_asks_first(engine: FakeEngine, skiff: Run) -> None:
    engine.route("POST /containers/prune")(always({"ContainersDeleted": [ID], "SpaceReclaimed": 4261550}))
    asked = skiff("container", "prune", stdin="n\n")
    assert asked.stdout.endswith("Are you sure you want to continue? [y/N] ")
    assert not engine.requests
    agreed = skiff("container", "prune", stdin="y\n")
    assert agreed.stdout.endswith(f"Deleted Containers:\n{ID}\n\nTotal reclaimed space: 4.262MB\n")


def test_system_prune_goes_on_where_the_engine_has_not_got_the_noun(engine: FakeEngine, skiff: Run) -> None:
    engine.route("POST /.*/prune")(always({"SpaceReclaimed": 1}))
    engine.route("POST /networks/prune")(always({"message": "no networks here"}, 501))
    done = skiff("system", "prune", "-f")
    assert done.stdout == "Total reclaimed space: 3B\n"
    assert (done.stderr, done.returncode) == ("Error response from daemon: no networks here\n", 1)


def test_events(engine: FakeEngine, skiff: Run) -> None:
    event = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "1", "Attributes": {"name": "web", "exitCode": "3"}},
        "scope": "local",
        "time": 1,
        "timeNano": 1_000_000_005,
    }
    engine.route("GET /events")(stream(event))
    assert skiff("events").stdout == "1970-01-01T00:00:01.000000005Z container die 1 (exitCode=3, name=web)\n"
    assert skiff("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}").stdout == "die web\n"
    assert json.loads(skiff("events", "--format", "json").stdout) == event
    wrong = skiff("events", "--format", "{{.Nope}}")
    assert (wrong.returncode, "can't evaluate field Nope" in wrong.stderr) == (64, True)


def test_volume_create_and_network_create(engine: FakeEngine, skiff: Run) -> None:
    engine.route("POST /volumes/create")(always({"Name": "v"}, 201))
    assert skiff("volume", "create", "--label", "a=b", "-o", "type=tmpfs", "v").stdout == "v\n"
    assert engine.requests[0].json == {
        "Name": "v",
        "Driver": "local",
        "DriverOpts": {"type": "tmpfs"},
        "Labels": {"a": "b"},
    }
    engine.route("POST /networks/create")(always({"Id": "n1", "Warning": ""}, 201))
    done = skiff("network", "create", "--subnet", "10.1.0.0/16", "--gateway", "10.1.0.1", "--ipv6", "n")
    assert done.stdout == "n1\n"
    body = engine.requests[1].json
    assert body["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1"}]
    assert (body["EnableIPv6"], "EnableIPv4" in body) == (True, False)
    wrong = skiff("network", "create", "--subnet", "10.1.0.0/16", "--gateway", "10.2.0.1", "n")
    assert (wrong.stderr, wrong.returncode) == ("no matching subnet for gateway 10.2.0.1\n", 1)


def test_port_and_update_and_wait(engine: FakeEngine, skiff: Run) -> None:
    ports = {"80/tcp": [{"HostIp": "::", "HostPort": "8080"}], "9/udp": None}
    engine.route("GET /containers/web/json")(always({"NetworkSettings": {"Ports": ports}}))
    assert skiff("port", "web").stdout == "80/tcp -> [::]:8080\n"
    assert skiff("port", "web", "9/udp").stderr == "Error: No public port '9/udp' published for web\n"
    engine.route("POST /containers/web/update")(always({"Warnings": None}))
    assert skiff("update", "--cpus", "1.5", "-m", "64m", "--restart", "on-failure:3", "web").stdout == "web\n"
    assert engine.requests[-1].json == {
        "NanoCpus": 1_500_000_000,
        "Memory": 64 << 20,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    }
    engine.route("POST /containers/web/wait")(always({"StatusCode": 7}))
    assert skiff("wait", "web").stdout == "7\n"


def test_version_without_an_engine_still_shows_the_client(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-IS", PROGRAM, "-H", f"unix://{tmp_path}/none", "version"],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.startswith("Client:\n Version:           ")
    assert done.returncode == 1
    assert "Cannot connect" in done.stderr


@pytest.mark.parametrize("command", [("ps",), ("images",), ("version",)])
def test_the_fast_paths_stay_lean(engine: FakeEngine, tmp_path: Path, command: tuple[str, ...]) -> None:
    engine.route("GET /(containers|images)/json")(always([]))
    engine.route("GET /version")(always({"Version": "1", "Components": []}))
    assert loaded(HEAVY, engine, tmp_path, command) == "[] 0\n"


@pytest.mark.parametrize("command", [("tag", "a", "b"), ("commit", "c", "a:b")])
def test_names_are_parsed_without_libraries(
    engine: FakeEngine, tmp_path: Path, command: tuple[str, ...]
) -> None:
    engine.route("POST /(images/a/tag|commit)")(always({"Id": "sha256:1"}))
    assert loaded({"msgspec", "hashlib", "asyncio"}, engine, tmp_path, command) == "[] 0\n"


def loaded(modules: set[str], engine: FakeEngine, home: Path, command: tuple[str, ...]) -> str:
    """Which of the modules a command loads, where no library is in sight; and its exit code."""
    script = (
        f"import sys; sys.path.insert(0, {str(SRC)!r}); from skiff.cli.main import main;"
        "code = main(sys.argv[1:]);"
        f"print(sorted({modules!r} & sys.modules.keys()), code, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", script, "-H", engine.url, *command],
        env={"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stderr
