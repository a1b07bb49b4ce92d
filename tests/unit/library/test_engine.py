"""library/engine.py against a fake engine; and what `import skiff` costs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skiff
from skiff.errors import InvalidParameter
from skiff.library.container import unix_time
from skiff.library.options import body
from tests.fakes.fake_engine import FakeEngine, Reply, Request, frame, upgrade

SRC = Path(__file__).parents[3] / "src"
ID = "d6f5fd6a2f1a" + "0" * 52


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(str(tmp_path / "engine.sock")) as running:
        running.route("POST /containers/create")(lambda request: Reply(201, {"Id": ID, "Warnings": []}))
        running.route("POST /containers/[^/]+/start")(lambda request: Reply(204))
        running.route("DELETE /containers/[^/]+")(lambda request: Reply(204))
        running.route("POST /containers/[^/]+/wait")(lambda request: Reply(200, {"StatusCode": 0}))
        yield running


@pytest.fixture
def engine(fake: FakeEngine) -> skiff.Engine:
    return skiff.connect(fake.url)


def attached(*frames: bytes, echo: bool = False) -> Any:
    def route(request: Request) -> None:
        upgrade(request)
        if echo:
            said = request.sock.makefile("rb").read()
            request.sock.sendall(frame(1, said.upper()))
        request.sock.sendall(b"".join(frames))

    return route


def test_run_gives_both_streams_and_removes_the_container(fake: FakeEngine, engine: skiff.Engine) -> None:
    fake.route("POST /containers/[^/]+/attach")(attached(frame(1, b"out"), frame(2, b"err"), frame(1, b"!")))
    done = engine.run("busybox", "echo 'a b'", memory="64m", env={"A": "1"}, ports={80: 8080})
    assert (done.exit_code, done.stdout, done.stderr, done.text) == (0, b"out!", b"err", "out!")
    asked = fake.requests[0].json
    assert asked["Cmd"] == ["echo", "a b"]
    assert asked["Env"] == ["A=1"]
    assert asked["HostConfig"]["Memory"] == 64 << 20
    assert asked["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert fake.paths()[-1] == f"DELETE /containers/{ID}"


def test_input_is_sent_and_ended(fake: FakeEngine, engine: skiff.Engine) -> None:
    fake.route("POST /containers/[^/]+/attach")(attached(echo=True))
    assert engine.run("busybox", ["cat"], input="abc" * 100_000).text == "ABC" * 100_000


def test_a_failure_has_the_last_words_and_leaves_nothing(fake: FakeEngine, engine: skiff.Engine) -> None:
    fake.route("POST /containers/[^/]+/attach")(attached(frame(2, b"one\ntwo\n")))
    fake.route("POST /containers/[^/]+/wait")(lambda request: Reply(200, {"StatusCode": 3}))
    with pytest.raises(skiff.ContainerFailed, match=r"^exit code 3: two$"):
        engine.run("busybox", "false")
    assert engine.run("busybox", "false", check=False).exit_code == 3
    assert fake.paths().count(f"DELETE /containers/{ID}") == 2


def test_a_container_that_does_not_start_is_removed(fake: FakeEngine, engine: skiff.Engine) -> None:
    fake.route("POST /containers/[^/]+/start")(lambda request: Reply(400, {"message": "no such program"}))
    with pytest.raises(skiff.EngineError, match="no such program"):
        engine.start("busybox", "nothing")
    assert fake.paths()[-1] == f"DELETE /containers/{ID}"


def test_a_missing_image_is_pulled_once(fake: FakeEngine, engine: skiff.Engine) -> None:
    pulled: list[Request] = []

    @fake.route("POST /containers/create")
    def create(request: Request) -> Reply:
        return Reply(201, {"Id": ID}) if pulled else Reply(404, {"message": "No such image: x:latest"})

    @fake.route("POST /images/create")
    def pull(request: Request) -> Reply:
        pulled.append(request)
        return Reply(200, chunks=[b'{"status":"Pulling"}\n'])

    fake.route("GET /images/x/json")(lambda request: Reply(200, {"Id": "sha256:1", "RepoTags": ["x:latest"]}))
    assert engine.create("x").id == ID
    assert pulled[0].query == {"fromImage": ["x"], "tag": ["latest"]}
    pulled.clear()
    with pytest.raises(skiff.EngineError, match="No such image"):
        engine.create("x", pull="never")


def test_a_pull_that_fails_is_raised(fake: FakeEngine, engine: skiff.Engine) -> None:
    fake.route("POST /images/create")(
        lambda request: Reply(200, chunks=[b'{"errorDetail":{"message":"denied"},"error":"denied"}\n'])
    )
    with pytest.raises(skiff.PullFailed, match=r"^denied$"):
        engine.pull("x")


def test_logs_are_lines(fake: FakeEngine, engine: skiff.Engine) -> None:
    fake.route("GET /containers/c/json")(lambda request: Reply(200, {"Id": "c", "Config": {"Tty": False}}))
    parts = [frame(1, b"one\ntw"), frame(2, b"err\n"), frame(1, b"o\nthree")]
    fake.route("GET /containers/c/logs")(lambda request: Reply(200, chunks=[b"".join(parts)]))
    assert list(engine.logs("c", tail=5)) == ["one", "err", "two", "three"]
    assert fake.requests[-1].query["tail"] == ["5"]


def test_a_build_that_fails_has_its_log(fake: FakeEngine, engine: skiff.Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    fake.route("POST /build")(
        lambda request: Reply(200, chunks=[b'{"stream":"Step 1\\n"}\n', b'{"error":"it broke"}\n'])
    )
    said: list[str] = []
    with pytest.raises(skiff.BuildFailed, match=r"^it broke$") as caught:
        engine.build(tmp_path, tag="t", args={"A": "1"}, tell=said.append)
    assert caught.value.log == "Step 1\n"
    assert said == ["Step 1"]
    assert fake.requests[0].query["buildargs"] == ['{"A":"1"}']


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="no such option: memroy"):
        body("busybox", [], {"memroy": 1})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(InvalidParameter, match="expected a port number"):
        body("busybox", [], {"ports": {"http": 80}})


def test_import_skiff_loads_nothing() -> None:
    program = "import sys; before = set(sys.modules); import skiff; print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(SRC)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['skiff']\n"


def test_every_name_is_there_and_others_are_not() -> None:
    for name in dir(skiff):
        assert getattr(skiff, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        skiff.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_archives_go_in_pieces(fake: FakeEngine, engine: skiff.Engine, tmp_path: Path) -> None:
    came: list[bytes] = []

    def load(request: Request) -> Reply:
        came.append(request.body)
        return Reply(200, {"stream": "Loaded image: a:1\nLoaded image ID: sha256:b\n"})

    fake.route("POST /images/load")(load)
    fake.route("GET /images/[^/]+/json")(lambda request: Reply(200, {"Id": request.path.split("/")[-2]}))
    (tmp_path / "a.tar").write_bytes(b"tar")
    for source in (tmp_path / "a.tar", open(tmp_path / "a.tar", "rb"), b"tar", (b"t", b"ar")):
        assert [image.id for image in engine.load(source)] == ["a:1", "sha256:b"]
    assert came == [b"tar"] * 4
    fake.route("POST /images/load")(lambda request: Reply(200, {"errorDetail": {"message": "bad"}}))
    with pytest.raises(skiff.LoadFailed, match="bad"):
        engine.load(b"junk")
    with pytest.raises(FileNotFoundError):
        engine.load(tmp_path / "none")


def test_a_saved_file_appears_when_it_is_whole(
    fake: FakeEngine, engine: skiff.Engine, tmp_path: Path
) -> None:
    fake.route("GET /images/get")(lambda request: Reply(404, {"message": "No such image: a"}))
    target = tmp_path / "a.tar"
    with pytest.raises(skiff.EngineError, match="No such image"):
        engine.save("a", target)
    assert list(tmp_path.glob("*.tar*")) == []
    fake.route("GET /images/get")(lambda request: Reply(200, {"tar": 1}))
    engine.save(["a", "b"], target)
    assert [path.name for path in tmp_path.glob("*.tar*")] == ["a.tar"]
    assert b"tar" in target.read_bytes()


def test_input_in_pieces_that_fails_on_the_way(fake: FakeEngine, engine: skiff.Engine) -> None:
    def given() -> Iterator[bytes]:
        yield b"abc"
        raise RuntimeError("no more")

    fake.route("POST /containers/[^/]+/attach")(attached(echo=True))
    assert engine.run("busybox", "cat", input=iter((b"a", b"b"))).text == "AB"
    with pytest.raises(RuntimeError, match="no more"):
        engine.run("busybox", "cat", input=given())
    with pytest.raises(InvalidParameter, match="expected bytes as input, not str"):
        engine.run("busybox", "cat", input=iter(("a",)))  # type: ignore[arg-type]


def test_options_that_are_no_list() -> None:
    assert body("i", "c", {"env": {"A": "1", "B": None}})["Env"] == ["A=1", "B"]
    with pytest.raises(InvalidParameter, match=r"expected a list for volumes, not '/a:/b'"):
        body("i", "c", {"volumes": "/a:/b"})
    with pytest.raises(InvalidParameter, match="for ports, not"):
        body("i", "c", {"ports": [80]})  # type: ignore[typeddict-item]
    with pytest.raises(InvalidParameter, match="expected Unix seconds"):
        unix_time("1h")
