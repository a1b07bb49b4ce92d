"""Networks of an engine as its users see them: links, events, and an engine that is killed at any moment."""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest

from tests.integration.engines import Engine, wait_for

BRIDGES = """
import sys
from skiff.linux.nftables import Nftables, name_of
for table in sys.argv[1:]:
    print(*(name_of(key) for key, _ in Nftables().elements(table, "bridges")))
"""
ROUNDS = 8
LONGEST = 0.04  # seconds that connecting and disconnecting take, about


def test_links_follow_their_target_through_a_restart(own_engine: Engine) -> None:
    docker = own_engine.docker
    run = ("run", "-d", "-e", "COLOUR=red", "--expose", "5432")
    docker(*run, "--name", "db", "busybox", "sleep", "600").ok()
    docker("run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "600").ok()

    def hosts_say() -> str:
        hosts = docker("exec", "web", "cat", "/etc/hosts").ok()
        return next(line.split()[0] for line in hosts.splitlines() if "store" in line.split())

    def address() -> str:
        return docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "db").ok()

    first = address()
    assert hosts_say() == first
    env = docker("exec", "web", "env").ok().splitlines()
    assert f"STORE_PORT=tcp://{first}:5432" in env
    assert "STORE_NAME=/web/store" in env
    assert "STORE_ENV_COLOUR=red" in env
    docker("stop", "-t", "0", "db").ok()
    docker("run", "-d", "--name", "between", "busybox", "sleep", "600").ok()
    docker("start", "db").ok()
    assert hosts_say() == address() != ""
    own_engine.crash()
    own_engine.start()
    docker("restart", "-t", "0", "db").ok()
    assert hosts_say() == address()


def test_events_of_networks(own_engine: Engine) -> None:
    docker = own_engine.docker
    since = str(time.time())
    docker("network", "create", "one").ok()
    docker("run", "-d", "--name", "box", "busybox", "sleep", "600").ok()
    docker("network", "connect", "one", "box").ok()
    docker("network", "disconnect", "one", "box").ok()
    docker("network", "rm", "one").ok()
    said = docker("events", "--since", since, "--until", str(time.time()), "--filter", "type=network")
    template = [line.split()[2] for line in said.ok().splitlines()]
    assert template == ["create", "connect", "connect", "disconnect", "destroy"]


def test_container_mode_shares_the_network(own_engine: Engine) -> None:
    docker = own_engine.docker
    docker("run", "-d", "--name", "web", "busybox", "sleep", "600").ok()
    command = ("sh", "-c", "hostname -i; readlink /proc/self/ns/net")
    shared = docker("run", "--rm", "--network", "container:web", "busybox", *command).ok()
    assert shared == docker("exec", "web", *command).ok()


def test_files_names_and_ports_follow_the_networks_of_a_container_that_runs(own_engine: Engine) -> None:
    docker = own_engine.docker
    for name, subnet in (("one", "10.91.0.0/24"), ("two", "10.92.0.0/24")):
        docker("network", "create", "--subnet", subnet, name).ok()
    docker("run", "-d", "--name", "db", "--network", "one", "busybox", "sleep", "600").ok()
    docker("run", "-d", "--name", "box", "-p", "9701:80", "busybox", "sleep", "600").ok()

    def own_lines() -> list[str]:
        hosts = docker("exec", "box", "cat", "/etc/hosts").ok().splitlines()
        id = docker("inspect", "-f", "{{.Config.Hostname}}", "box").ok()
        return [line.split()[0].rpartition(".")[0] for line in hosts if line.endswith(f"\t{id}")]

    first = own_lines()
    docker("network", "connect", "one", "box").ok()
    assert own_lines() == [*first, "10.91.0"]
    assert docker("exec", "box", "cat", "/etc/resolv.conf").ok().startswith("nameserver 127.0.0.11\n")
    assert "Address: 10.91.0.2" in docker("exec", "box", "nslookup", "-type=a", "db").ok()
    docker("network", "disconnect", "bridge", "box").ok()
    assert own_lines() == ["10.91.0"]
    docker("network", "disconnect", "one", "box").ok()
    assert own_lines() == []
    networks = ("inspect", "-f", "{{json .NetworkSettings.Networks}}", "box")
    assert docker(*networks).ok() == "{}"
    assert docker("port", "box").ok() == ""
    docker("restart", "-t", "0", "box").ok()
    assert docker(*networks).ok() == "{}"  # it is not brought back to where it was taken from
    docker("network", "connect", "two", "box").ok()
    assert docker("port", "box", "80").ok().splitlines()[0] == "0.0.0.0:9701"
    own_engine.crash()
    own_engine.start()
    docker("restart", "-t", "0", "box").ok()
    assert own_lines() == ["10.92.0"]


def test_who_shares_the_network_loses_it_with_its_owner(own_engine: Engine) -> None:
    docker = own_engine.docker
    docker("run", "-d", "--name", "web", "busybox", "sleep", "600").ok()
    docker("run", "-d", "--name", "lodger", "--network", "container:web", "busybox", "sleep", "600").ok()
    docker("run", "-d", "--name", "second", "--network", "container:lodger", "busybox", "sleep", "600").ok()
    docker("stop", "-t", "0", "lodger", "web").ok()
    shown = docker("exec", "second", "ip", "-o", "-4", "addr").ok()
    assert [line.split()[1] for line in shown.splitlines()] == ["lo"]


def test_the_sandbox_key_is_a_file_that_others_join_by(own_engine: Engine) -> None:
    docker = own_engine.docker
    modes = ("bridge", "none", "host")
    for mode in modes:
        docker("run", "-d", "--name", mode, "--network", mode, "busybox", "sleep", "600").ok()

    def keys(form: str = "{{.NetworkSettings.SandboxKey}}") -> list[str]:
        return docker("inspect", "-f", form, *modes).ok().splitlines()

    assert own_engine.mounts() == []  # nobody has asked
    first = keys()
    assert [os.path.dirname(key) for key in first] == [f"{own_engine.root}/run/netns"] * 3
    for key, pid in zip(first, keys("{{.State.Pid}}"), strict=True):
        assert os.stat(key).st_ino == os.stat(f"/proc/{pid}/ns/net").st_ino
        own_engine.run("nsenter", f"--net={key}", "true").ok()
    assert keys() == first
    own_engine.crash()
    os.kill(int(own_engine.processes_called("sleep")[0]), signal.SIGKILL)
    own_engine.start()
    running = docker("ps", "-q", "--no-trunc").ok().splitlines()
    assert sorted(os.listdir(f"{own_engine.root}/run/netns")) == sorted(id[:12] for id in running)
    assert len(running) == len(own_engine.mounts()) == 2
    docker("rm", "-f", *modes).ok()
    assert own_engine.mounts() == os.listdir(f"{own_engine.root}/run/netns") == []


@pytest.mark.slow
def test_killed_while_networks_come_and_go(own_engine: Engine) -> None:
    client, chance = own_engine.client, random.Random(11)
    own_engine.docker("run", "-d", "--name", "box", "-p", "8080:80", "busybox", "sleep", "600").ok()
    client.post("/networks/create", {"Name": "often"})
    own_engine.docker("network", "connect", "often", "box").ok()
    for round in range(ROUNDS):
        doing = threading.Thread(target=_come_and_go, args=(own_engine, round))
        doing.start()
        time.sleep(chance.uniform(0, 3 * LONGEST))
        own_engine.crash()
        doing.join()
        own_engine.start()
        _kernel_holds_what_the_records_say(own_engine)
    own_engine.docker("rm", "-f", "box").ok()
    own_engine.docker("network", "prune", "-f").ok()
    tables = partial(own_engine.run, "nft", "list", "tables")
    wait_for(lambda: tables().ok() == "", 10, lambda: "the firewall stays")
    _kernel_holds_what_the_records_say(own_engine)


def _come_and_go(engine: Engine, round: int) -> None:
    name = f"round{round}"
    doings: list[Callable[[], Any]] = [
        lambda: engine.client.post("/networks/often/disconnect", {"Container": "box"}),
        lambda: engine.client.post("/networks/create", {"Name": name}),
        lambda: engine.client.post(f"/networks/{name}/connect", {"Container": "box"}),
        lambda: engine.client.post("/networks/often/connect", {"Container": "box"}),
        lambda: engine.client.post(f"/networks/{name}/disconnect", {"Container": "box"}),
        lambda: engine.client.delete(f"/networks/{name}"),
    ]
    with suppress(OSError, HTTPException):
        for do in doings:
            do()


def _kernel_holds_what_the_records_say(engine: Engine) -> None:
    listed = engine.client.get("/networks").json()
    networks = [engine.client.get(f"/networks/{n['Id']}").json() for n in listed]
    bridged = [n for n in networks if n["Driver"] == "bridge"]
    links = json.loads(engine.run("ip", "-d", "-j", "link").ok())
    kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind") for link in links}
    default = next(n["Options"]["com.docker.network.bridge.name"] for n in bridged if n["Name"] == "bridge")
    names = {n["Id"]: default if n["Name"] == "bridge" else f"br-{n['Id'][:12]}" for n in bridged}
    assert {name for name, kind in kinds.items() if kind == "bridge"} | {default} == set(names.values())
    for network in bridged:
        on = [link for link in links if link.get("master") == names[network["Id"]]]
        assert len(on) == len(network["Containers"]), (network, on)
    used = {names[n["Id"]] for n in bridged if n["Containers"]}
    assert sum(kind == "veth" for kind in kinds.values()) == sum(len(n["Containers"]) for n in bridged)
    assert _bridges_of_the_firewall(engine) == used
    inside = {e["IPv4Address"] for n in bridged for e in n["Containers"].values()}
    if inside:
        shown = engine.docker("exec", "box", "ip", "-o", "-4", "addr").ok()
        assert {line.split()[3] for line in shown.splitlines()} - {"127.0.0.1/8"} == inside


def _bridges_of_the_firewall(engine: Engine) -> set[str]:
    tables = [line.split()[-1] for line in engine.run("nft", "list", "tables").ok().splitlines()]
    return set(engine.run(sys.executable, "-c", BRIDGES, *tables).ok().split())
