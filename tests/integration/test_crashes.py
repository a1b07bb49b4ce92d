"""The engine is killed at any moment. Containers go on, the next engine finds them, nothing is left over."""

import contextlib
import os
import random
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from tests.integration.engines import SKIFF, Engine, wait_for
from tests.integration.footprint import footprint, leaked

ROUNDS = 6
LONGEST = 0.15  # seconds that creating and starting take, about


def _begin(engine: Engine, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*engine.network.enter, *SKIFF, *words],
        env=engine.client_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_killed_while_containers_begin_and_end(own_engine: Engine) -> None:
    chance = random.Random(7)
    own_engine.docker("run", "-d", "--name", "steady", "busybox", "sleep", "600").ok()
    steady = own_engine.docker("inspect", "-f", "{{.State.Pid}}", "steady").ok()
    before = footprint(own_engine)
    for round in range(ROUNDS):
        doings = [
            _begin(own_engine, "run", "-d", "--name", f"begins{round}", "busybox", "sleep", "600"),
            _begin(own_engine, "run", "--rm", "--name", f"ends{round}", "-v", "/data", "busybox", "true"),
        ]
        time.sleep(chance.uniform(0.05, 0.05 + 2 * LONGEST))
        own_engine.crash()
        for doing in doings:
            doing.wait(30)
        own_engine.start()
        _usable(own_engine)
        assert own_engine.docker("inspect", "-f", "{{.State.Pid}}", "steady").ok() == steady
        for name in (f"begins{round}", f"ends{round}"):
            own_engine.client.delete(f"/containers/{name}", force=True, v=True)
    assert own_engine.docker("exec", "steady", "echo", "here").ok() == "here"
    names = own_engine.docker("ps", "-a", "--format", "{{.Names}}").ok()
    assert names == "steady"
    wait_for(
        lambda: not leaked(before, footprint(own_engine)),
        10,
        lambda: leaked(before, footprint(own_engine)),
    )


def test_killed_while_an_image_comes_in(own_engine: Engine, busybox_archive: bytes) -> None:
    own_engine.docker("rmi", "busybox").ok()
    for delay in (0.01, 0.05, 0.1):
        load = _begin_load(own_engine, busybox_archive, delay)
        own_engine.crash()
        load.kill()
        load.wait()
        own_engine.start()
    own_engine.docker("load", input=busybox_archive).ok()
    assert own_engine.docker("run", "--rm", "busybox", "echo", "whole").ok() == "whole"


def _begin_load(engine: Engine, archive: bytes, delay: float) -> "subprocess.Popen[bytes]":
    load = subprocess.Popen(
        [*engine.network.enter, "docker", "load"],
        env=engine.client_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert load.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        load.stdin.write(archive)
        load.stdin.close()
    time.sleep(delay)
    return load


ACTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "commit": ("POST", "/commit", {"container": "things", "repo": "made"}),
    "remove": ("DELETE", "/containers/things", {"v": True}),
    "undo": ("POST", "/skiff/trash/undo", {}),
    "volume rm": ("DELETE", "/volumes/kept", {}),
}


@pytest.mark.slow
def test_killed_before_each_step_of_keeping(own_engine: Engine) -> None:
    """Whatever is half done at a boot is completed or undone: people's files are there, and no litter."""
    own_engine.become_mortal()
    deaths = 0
    for act, (method, path, query) in ACTS.items():
        for steps in range(24):
            _things(own_engine)
            if act == "undo":
                assert own_engine.client.delete("/containers/things").status == 204
            if not own_engine.dies(steps, partial(own_engine.client.request, method, path, **query)):
                break
            deaths += 1
            _consistent(own_engine, f"{act}, killed before step {steps}")
        else:
            raise AssertionError(f"{act} was never brought to its end")
    assert deaths > 2 * len(ACTS)


COPIES = {
    "clone": ("/skiff/volumes/kept/clone", "copy"),
    "snapshot": ("/skiff/volumes/kept/snapshots", "copy"),
    "rollback": ("/skiff/volumes/kept/rollback", "first"),
}
NEW, OLD = {"a": "new", "b": "new", "c": "new"}, {"a": "old", "b": "old", "c": "old"}


@pytest.mark.slow
@pytest.mark.parametrize("act", COPIES)
def test_killed_before_each_step_of_a_copy(own_engine: Engine, act: str) -> None:
    """A copy of a volume is whole or not there, and nothing else is left."""
    own_engine.become_mortal()
    client = own_engine.client
    volumes, drafts = Path(own_engine.root, "data/volumes"), Path(own_engine.root, "data/new-volumes")
    path, name = COPIES[act]
    for steps in range(12):
        made = client.post("/volumes/create", {"Name": "kept"}).json()
        _write(Path(made["Mountpoint"]), OLD)
        assert client.post("/skiff/volumes/kept/snapshots", name="first").status == 201
        _write(Path(made["Mountpoint"]), NEW)
        if not own_engine.dies(steps, partial(client.post, path, name=name)):
            break
        when = f"{act}, killed before step {steps}"
        listed = {one["Name"] for one in client.get("/volumes").json()["Volumes"]}
        assert listed == set(os.listdir(volumes)), when
        assert not drafts.exists() or not os.listdir(drafts), when
        for directory in volumes.glob("*/_data"):
            assert _read(directory) in (NEW, OLD), f"{when}: {directory}"
        for directory in volumes.glob("*/snapshots/*"):
            assert _read(directory) == (OLD if directory.name == "first" else NEW), f"{when}: {directory}"
        assert set(os.listdir(volumes / "kept")) == {"_data", "snapshots"}, when
        assert client.get("/skiff/check").json()["Problems"] == [], when
        for one in listed:
            assert client.delete(f"/volumes/{one}").status == 204, when
        assert client.delete("/skiff/trash").status == 200, when
    else:
        raise AssertionError(f"{act} was never brought to its end")
    assert steps > 2
    if act == "clone":
        assert _read(volumes / "copy/_data") == NEW


def _write(directory: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        Path(directory, name).write_text(content)


def _read(directory: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in directory.iterdir()}


def _things(engine: Engine) -> None:
    """A container that has written, and a volume with content, as they were or anew."""
    if engine.client.get("/containers/things/json").status != 200:
        script = "echo mine >/mine; echo also >/data/also"
        engine.docker("run", "--name", "things", "-v", "/data", "busybox", "sh", "-c", script).ok()
    if engine.client.get("/volumes/kept").status != 200:
        made = engine.client.post("/volumes/create", {"Name": "kept"}).json()
        Path(made["Mountpoint"], "v").write_text("v")


def _consistent(engine: Engine, when: str) -> None:
    trash = {entry["Name"]: entry["Id"] for entry in engine.client.get("/skiff/trash").json()["Entries"]}
    for name, path in (("things", "/containers/things/json"), ("kept", "/volumes/kept")):
        if engine.client.get(path).status != 200:
            assert name in trash, f"{when}: {name} is gone"
            assert engine.client.post(f"/skiff/trash/{trash[name]}/restore").status == 200, when
    for path, content in (("/mine", b"mine"), ("/data/also", b"also")):
        assert content in engine.client.get("/containers/things/archive", path=path).body, f"{when}: {path}"
    assert Path(engine.client.get("/volumes/kept").json()["Mountpoint"], "v").read_text() == "v", when
    wait_for(lambda: not _problems(engine), 20, lambda: f"{when}: {_problems(engine)}")


def _problems(engine: Engine) -> list[str]:
    found: list[str] = engine.client.get("/skiff/check").json()["Problems"]
    return found


def _usable(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "busybox", "echo", "works").ok() == "works"
