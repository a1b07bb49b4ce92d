"""The engine is killed before each step of what it does to networks: kernel and records agree afterwards."""

import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from tests.integration.engines import Engine, wait_for
from tests.integration.kernel_network import SYSCTLS, agrees
from tests.integration.own_network import OUTSIDE

ASK = """
import socket, sys
for port in sys.argv[2:]:
    try:
        with socket.create_connection((sys.argv[1], int(port)), 3) as sock:
            sock.sendall(b"GET /passwd HTTP/1.0\\r\\n\\r\\n")
            if b"200 OK" in sock.recv(1000):
                print(port)
    except OSError:
        pass
"""
PORTS = (8080, 8081, 9090)
MANY = 60  # steps of one act, at most
MARTIANS = {"DriverOpts": {SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1"}}
SECOND = {"PortBindings": {"80/tcp": [{"HostPort": "8081"}]}}
BOX = {"Container": "box"}


class Act(NamedTuple):
    method: str
    path: str
    body: object = None
    before: Callable[[Engine], None] = lambda engine: None
    whole: Callable[[Engine], bool] = lambda engine: True  # done, or not done at all


def _does(method: str, path: str, body: object = None) -> Callable[[Engine], None]:
    """Whether it can be done or was done already: what counts is how it is afterwards."""

    def do(engine: Engine) -> None:
        engine.client.request(method, path, body)

    return do


def _often(engine: Engine) -> None:
    """A network that a container is on which does not run."""
    engine.client.post("/networks/create", {"Name": "often"})
    engine.client.post("/networks/often/connect", {"Container": "late"})


def _often_is_whole(engine: Engine) -> bool:
    """It is there with that container, or in the trash."""
    there = {network["Id"]: network["Name"] for network in engine.client.get("/networks").json()}
    entries = engine.client.get("/skiff/trash").json()["Entries"]
    kept = {entry["Key"] for entry in entries if entry["Type"] == "network"}
    late = engine.client.get("/containers/late/json").json()["NetworkSettings"]["Networks"]
    return not kept & there.keys() and ("often" in there.values()) == ("often" in late)


LEAVE = _does("POST", "/networks/alpha/disconnect", BOX)
JOIN = _does("POST", "/networks/alpha/connect", BOX | {"EndpointConfig": MARTIANS})
ACTS = {
    "create": Act("POST", "/networks/create", {"Name": "often"}, _does("DELETE", "/networks/often")),
    "rm": Act("DELETE", "/networks/often", None, _often, _often_is_whole),
    "connect": Act("POST", "/networks/alpha/connect", BOX | {"EndpointConfig": MARTIANS}, LEAVE),
    "disconnect": Act("POST", "/networks/alpha/disconnect", BOX, JOIN),
    "port add": Act(
        "POST", "/skiff/containers/box/ports", SECOND, _does("DELETE", "/skiff/containers/box/ports", SECOND)
    ),
    "port rm": Act(
        "DELETE", "/skiff/containers/box/ports", SECOND, _does("POST", "/skiff/containers/box/ports", SECOND)
    ),
    "start": Act("POST", "/containers/late/start", None, _does("POST", "/containers/late/kill")),
    "kill": Act("POST", "/containers/late/kill", None, _does("POST", "/containers/late/start")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
def test_killed_before_each_step(own_engine: Engine, name: str) -> None:
    act = ACTS[name]
    own_engine.become_mortal()
    for network in ("alpha", "middle"):
        own_engine.docker("network", "create", network).ok()
    serve = ("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    own_engine.docker("run", "-d", "--name", "box", "--network", "middle", "-p", "8080:80", *serve).ok()
    own_engine.docker("create", "--name", "late", "--network", "alpha", "-p", "9090:80", *serve).ok()
    for steps in range(MANY):
        act.before(own_engine)
        if not own_engine.dies(steps, partial(own_engine.client.request, act.method, act.path, act.body)):
            break
        when = f"{name}, killed before step {steps}"
        agrees(own_engine, when)
        assert act.whole(own_engine), when
        _answers(own_engine, when)
    else:
        raise AssertionError(f"{name} was never brought to its end")
    assert steps > 1
    agrees(own_engine, f"{name}, done")
    own_engine.docker("rm", "-f", "box", "late").ok()
    own_engine.docker("network", "prune", "-f").ok()
    assert own_engine.client.get("/skiff/check").json()["Problems"] == []
    wait_for(lambda: own_engine.run("nft", "list", "tables").ok() == "", 10, lambda: "the firewall stays")


@pytest.mark.slow
def test_a_disconnect_that_is_killed_is_done_or_not(own_engine: Engine) -> None:
    """What inspect shows is what the next start of the container makes."""
    own_engine.become_mortal()
    for network in ("alpha", "middle"):
        own_engine.docker("network", "create", network).ok()
    own_engine.docker("run", "-d", "--name", "box", "--network", "alpha", "busybox", "sleep", "600").ok()
    own_engine.docker("network", "connect", "middle", "box").ok()
    for steps in range(MANY):
        JOIN(own_engine)
        if not own_engine.dies(steps, partial(LEAVE, own_engine)):
            break
        before = _networks(own_engine)
        own_engine.docker("restart", "-t", "0", "box").ok()
        assert _networks(own_engine) == before, f"killed before step {steps}"
    assert steps > 1
    assert _networks(own_engine) == ("middle",)


def _networks(engine: Engine) -> tuple[str, ...]:
    return tuple(sorted(engine.client.get("/containers/box/json").json()["NetworkSettings"]["Networks"]))


def _answers(engine: Engine, when: str) -> None:
    """At every port that is published, and at no other."""
    shown = engine.docker("ps", "--format", "{{.Ports}}").ok()
    assert "0.0.0.0:8080->80/tcp" in shown, when
    answering = engine.run(sys.executable, "-c", ASK, OUTSIDE, *map(str, PORTS)).ok().split()
    assert answering == [str(port) for port in PORTS if f"0.0.0.0:{port}->" in shown], f"{when}: {shown}"
