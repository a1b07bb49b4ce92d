"""`import skiff`: a program's containers, images, networks; and its functions in containers."""

import io
import os
import sys
import tarfile
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

import pytest

import skiff
from tests.integration.engines import Engine, wait_for


@dataclass
class Point:
    x: int
    y: int = 0


SCALE = 10


def scaled(point: Point) -> Point:
    return Point(point.x * SCALE, point.y * SCALE)


@pytest.fixture
def here(engine: Engine) -> skiff.Engine:
    return skiff.connect(f"unix://{engine.socket}")


def test_run_exec_logs_files(here: skiff.Engine) -> None:
    assert here.run("busybox", "echo hello").text == "hello\n"
    assert here.run("busybox", ["wc", "-c"], input=b"x" * 500_000).text == "500000\n"
    with pytest.raises(skiff.ContainerFailed, match="exit code 3: bad"):
        here.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"])
    with here.start("busybox", ["sh", "-c", "echo one; echo two; sleep 60"], network="none") as box:
        box.write("/hello", "you\n")
        assert box.read("/hello") == b"you\n"
        assert box.exec("cat /hello").text == "you\n"
        assert box.exec(["sh", "-c", "exit 4"], check=False).exit_code == 4
        assert box.exec("cat", input="given").text == "given"
        wait_for(lambda: list(box.logs()) == ["one", "two"], 10, lambda: str(list(box.logs())))
        assert (box.status, box.exit_code) == ("running", None)
        box.stop(0)
        assert (box.status, box.exit_code) == ("exited", 137)
    assert here.containers(all=True) == []


def test_build_networks_volumes_events(here: skiff.Engine, tmp_path: Path) -> None:
    before = time.time()
    (tmp_path / "word").write_text("carried")
    image = here.build(tmp_path, dockerfile="FROM busybox\nCOPY word /word\n", tag="library-test")
    assert image.tags == ("library-test:latest",)
    with (
        here.create_network("library-net") as network,
        here.create_volume("library-volume") as volume,
        here.start(image.id, "sleep 60", name="library-box", network=network.name) as box,
    ):
        assert box.exec("cat /word").text == "carried"
        mounted = f"{volume.name}:/v"
        here.run("busybox", ["sh", "-c", "echo kept > /v/f"], volumes=[mounted], network="none")
        assert here.run("busybox", "cat /v/f", volumes=[mounted], network="none").text == "kept\n"
        found = here.run("busybox", "ping -c 1 library-box", network=network.name)
        assert "1 packets received" in found.text
    here.remove_image("library-test")
    acts = [(event.type, event.action) for event in here.events(since=before, until=time.time())]
    for act in (("network", "create"), ("volume", "create"), ("container", "start"), ("image", "tag")):
        assert act in acts


def test_tars_of_every_kind(here: skiff.Engine, tmp_path: Path) -> None:
    archive, files = tmp_path / "saved.tar", tmp_path / "files.tar"
    here.save("busybox", archive)
    with open(archive, "rb") as opened:
        assert [image.tags for image in here.load(opened)] == [("busybox:latest",)]
    here.tag("busybox", "library-tar:1")
    with pytest.raises(skiff.PushFailed, match="connection refused"):
        here.tag("busybox", "127.0.0.1:1/nowhere")
        here.push("127.0.0.1:1/nowhere")
    with here.start("library-tar:1", "sleep 60", network="none") as box:
        box.put("/root", {"shelf": None, "shelf/book": "read"})
        box.get_tar("/root/shelf", files)
        box.put_tar("/tmp", files)
        assert box.exec("cat /tmp/shelf/book").text == "read"
        box.export(files)
    made = here.import_image(files, "library-tar:2", changes=["CMD cat /tmp/shelf/book"])
    assert made.tags == ("library-tar:2",)
    assert here.run("library-tar:2", network="none").text == "read"
    with tarfile.open(files, "w") as context:
        entry = tarfile.TarInfo("Dockerfile")
        lines = b"FROM busybox\nLABEL from=tar\n"
        entry.size = len(lines)
        context.addfile(entry, io.BytesIO(lines))
    assert here.build(files, tag="library-tar:3").labels == {"from": "tar"}
    for name in ("library-tar:1", "library-tar:2", "library-tar:3", "127.0.0.1:1/nowhere"):
        here.remove_image(name)


def test_a_function_runs_in_a_container(here: skiff.Engine, capsys: pytest.CaptureFixture[str]) -> None:
    @skiff.function(engine=here, network="none")
    def work(point: Point) -> tuple[Point, int, str]:
        print("at work", point.x)
        print("aside", file=sys.stderr)
        Path("/made").write_text("x")
        return scaled(point), os.getpid(), sys.version

    point, pid, version = work(Point(1, 2))
    assert point == Point(10, 20)
    assert type(point) is Point
    assert pid == 1
    assert version == sys.version
    assert not Path("/made").exists()
    assert capsys.readouterr() == ("at work 1\n", "aside\n")
    assert here.containers(all=True) == []


def test_a_function_that_fails(here: skiff.Engine) -> None:
    @skiff.function(engine=here, network="none", memory="48m")
    def fails(how: str) -> int:
        if how == "key":
            return {"a": 1}["b"]
        if how == "memory":
            return len(bytearray(200 << 20))
        os._exit(9)

    with pytest.raises(KeyError, match="b") as caught:
        fails("key")
    assert 'return {"a": 1}["b"]' in str(caught.value.__cause__)
    with pytest.raises(skiff.FunctionFailed, match="wanted more memory"):
        fails("memory")
    with pytest.raises(skiff.FunctionFailed, match="exit code 9"):
        fails("exit")
    assert here.containers(all=True) == []


def test_a_function_that_takes_too_long_or_is_cancelled(here: skiff.Engine) -> None:
    @skiff.function(engine=here, network="none", timeout=0.5)
    def sleeps() -> None:
        time.sleep(600)

    with pytest.raises(TimeoutError, match=r"did not end within 0\.5 s"):
        sleeps()

    @skiff.function(engine=here, network="none")
    def waits(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    long = waits.submit(600)
    assert list(waits.map([0.1, 0.0], at_once=2)) == [0.1, 0.0]
    assert long.cancel()
    with pytest.raises(CancelledError):
        long.result(30)
    assert here.containers(all=True) == []


def test_another_python_than_ours(here: skiff.Engine) -> None:
    other = "/usr/bin/python3"
    if not os.path.exists(other) or os.path.realpath(other) == os.path.realpath(sys.executable):
        pytest.skip("there is no second Python")

    @skiff.function(engine=here, network="none", python=other)
    def work(point: Point) -> tuple[Point, str]:
        return scaled(point), sys.prefix

    assert work(Point(1)) == (Point(10), "/usr")


def test_an_image_without_that_python_says_so(here: skiff.Engine) -> None:
    @skiff.function(engine=here, image="busybox", network="none")
    def nothing() -> None: ...

    with pytest.raises(skiff.EngineError, match=r'exec: "python3": executable file not found'):
        nothing()
    assert here.containers(all=True) == []


def test_the_examples_in_the_docstrings(engine: Engine) -> None:
    program = """if True:
        import doctest, sys, tempfile, time
        import skiff
        from skiff.library import container, engine, function, options
        names = {"skiff": skiff, "tempfile": tempfile, "time": time}
        for module in (container, engine, function, options):
            found = doctest.testmod(module, extraglobs=names)
            assert found.attempted and not found.failed, found
    """
    done = engine.run(sys.executable, "-c", program)
    assert done.code == 0, done.out + done.err
    assert engine.skiff("ps", "-aq").ok() == ""


def test_a_program_that_ends_leaves_no_function_at_work(engine: Engine, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import time\nimport skiff\n\n"
        "@skiff.function(network='none')\ndef works():\n    time.sleep(600)\n\n"
        "call = works.submit()\n"
        "while not skiff.containers():\n    time.sleep(0.05)\n"
    )
    done = engine.run(sys.executable, str(script))
    assert done.code == 0, done.err
    assert engine.skiff("ps", "-aq").ok() == ""
