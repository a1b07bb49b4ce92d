"""The engine is killed at any moment. Containers go on, the next engine finds them, nothing is left over."""

import contextlib
import random
import subprocess
import time

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


def _usable(engine: Engine) -> None:
    assert engine.docker("run", "--rm", "busybox", "echo", "works").ok() == "works"
