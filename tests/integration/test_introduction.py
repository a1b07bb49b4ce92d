"""A newcomer's introduction to Docker, followed step by step with either command line.

A stand-in for the database: an image with two volumes, a port, content below a volume, an entry point.
"""

import os
import re
from collections.abc import Iterator

import pytest

from tests.integration import busybox
from tests.integration.conftest import Cli
from tests.integration.engines import Engine, wait_for

HEADER = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES"
SERVE = (
    "test -e /data/db/first || echo first > /data/db/first; while :; do echo served | nc -l -p 27017; done"
)


@pytest.fixture(scope="module")
def mongo() -> bytes:
    return busybox.archive(
        "mongo:latest",
        Volumes={"/data/db": {}, "/data/configdb": {}},
        ExposedPorts={"27017/tcp": {}},
        Entrypoint=["sh", "-c"],
        Cmd=[SERVE],
        Env=[busybox.PATH, "MONGO_MAJOR=3.4"],
    )


@pytest.fixture
def introduced(cli: Cli, engine: Engine, mongo: bytes) -> Iterator[Cli]:
    assert engine.client.post("/images/load", mongo).status == 200
    yield cli
    engine.remove_containers()
    engine.client.delete("/networks/mongo_network")


def test_an_empty_engine_lists_the_header(introduced: Cli) -> None:
    done = introduced("ps")
    assert (done.out, done.err) == (HEADER + "\n", "")


def test_no_engine_is_said(engine: Engine) -> None:
    for run in (engine.docker, engine.skiff):
        done = run("-H", f"unix://{engine.root}/nobody", "ps")
        assert done.code == 1
        assert "Is the docker daemon running?" in done.err
        assert f"Cannot connect to the Docker daemon at unix://{engine.root}/nobody." in done.err


def test_a_named_detached_database(introduced: Cli) -> None:
    id = introduced("run", "--name", "mongodb", "-d", "mongo").ok()
    assert re.fullmatch("[0-9a-f]{64}", id)
    row = introduced("ps").ok().split("\n")[1]
    assert re.fullmatch(
        rf'{id[:12]}   mongo     "sh -c \'test -e /dat…"   .* ago   Up .*   27017/tcp   mongodb', row
    ), row
    taken = introduced("run", "--name", "mongodb", "-d", "mongo")
    assert taken.code == 125
    assert f'Conflict. The container name "/mongodb" is already in use by container "{id}".' in taken.err


def test_going_in(introduced: Cli) -> None:
    introduced("run", "--name", "mongodb", "-d", "mongo").ok()
    assert introduced("exec", "mongodb", "echo", "--host", "-x").ok() == "--host -x"
    missing = introduced("exec", "mongodb", "vim")
    assert missing.code == 127
    assert 'exec: "vim": executable file not found in $PATH' in missing.err + missing.out


def test_data_is_lost_with_its_container_and_kept_outside(introduced: Cli, engine: Engine) -> None:
    introduced("run", "--name", "mongodb", "-d", "mongo").ok()
    introduced("exec", "mongodb", "touch", "/lost").ok()
    assert introduced("stop", "-t", "0", "mongodb").ok() == "mongodb"
    assert introduced("rm", "mongodb").ok() == "mongodb"
    assert introduced("ps", "-a").ok() == HEADER
    folder = f"{engine.root}/made/by/the/engine"
    run = ("run", "--name", "mongodb", "-d", "-v", f"{folder}:/data/db", "mongo")
    introduced(*run).ok()
    wait_for(lambda: os.path.exists(f"{folder}/first"), 5, lambda: "no data on the host")
    introduced("rm", "-f", "mongodb").ok()
    introduced(*run).ok()
    assert introduced("exec", "mongodb", "cat", "/data/db/first").ok() == "first"
    read_only = ("run", "--rm", "-v", f"{folder}:/x:ro", "-v", f"{folder}/first:/one", "busybox")
    assert introduced(*read_only, "touch", "/x/y").code == 1
    assert introduced(*read_only, "cat", "/one").ok() == "first"


def test_volumes(introduced: Cli) -> None:
    assert introduced("volume", "create", "--name", "mongodb_data").ok() == "mongodb_data"
    assert introduced("volume", "create", "other").ok() == "other"
    introduced("run", "--name", "mongodb", "-d", "-v", "mongodb_data:/data/db", "mongo").ok()
    lines = introduced("volume", "list").ok().split("\n")
    assert lines[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert "local     mongodb_data" in lines
    (anonymous,) = (line.split()[1] for line in lines if re.search(r" [0-9a-f]{64}$", line))
    introduced("rm", "-f", "mongodb").ok()
    assert anonymous in introduced("volume", "ls", "-q").ok()
    mountpoint = introduced("volume", "inspect", "-f", "{{.Mountpoint}}", anonymous).ok()
    assert os.path.isdir(mountpoint)
    introduced("run", "--name", "mongodb", "-d", "-v", "mongodb_data:/data/db", "mongo").ok()
    assert introduced("exec", "mongodb", "cat", "/data/db/first").ok() == "first"
    before = set(introduced("volume", "ls", "-q").ok().split("\n"))
    introduced("rm", "-f", "-v", "mongodb").ok()
    gone = before - set(introduced("volume", "ls", "-q").ok().split("\n"))
    assert len(gone) == 1
    assert "mongodb_data" not in gone
    count = len(introduced("volume", "ls", "-q").ok().split("\n"))
    introduced("run", "--rm", "mongo", "true").ok()
    assert len(introduced("volume", "ls", "-q").ok().split("\n")) == count


def test_a_first_use_copies_what_the_image_has_there(introduced: Cli) -> None:
    introduced("run", "--rm", "-v", "filled:/etc", "busybox", "true").ok()
    shown = introduced("run", "--rm", "-v", "filled:/look:ro", "busybox", "head", "-n1", "/look/passwd").ok()
    assert shown.startswith("root:")


def test_a_network_and_its_names(introduced: Cli) -> None:
    id = introduced("network", "create", "mongo_network").ok()
    assert re.fullmatch("[0-9a-f]{64}", id)
    names = introduced("network", "ls", "--format", "{{.Name}} {{.Driver}}").ok().split("\n")
    assert set(names) >= {"bridge bridge", "host host", "none null", "mongo_network bridge"}
    on = ("--network=mongo_network",)
    introduced("run", *on, "--name", "mongodb", "--network-alias", "db", "-d", "mongo").ok()
    ask = "for i in 1 2 3 4 5; do nc $0 27017 < /dev/null && exit; sleep 0.3; done; exit 1"
    assert introduced("run", "--rm", *on, "busybox", "sh", "-c", ask, "mongodb").ok() == "served"
    assert introduced("run", "--rm", *on, "busybox", "sh", "-c", ask, "db").ok() == "served"
    linked = ("--link", "mongodb:base")
    assert introduced("run", "--rm", *on, *linked, "busybox", "sh", "-c", ask, "base").ok() == "served"
    resolver = introduced("run", "--rm", *on, "busybox", "grep", "nameserver", "/etc/resolv.conf").ok()
    assert resolver == "nameserver 127.0.0.11"
    address = introduced(
        "inspect", "-f", "{{.NetworkSettings.Networks.mongo_network.IPAddress}}", "mongodb"
    ).ok()
    knock = ("busybox", "nc", "-w", "2", address, "27017")
    assert introduced("run", "--rm", *knock).code != 0, "another network reaches it"
    assert introduced("run", "--rm", "busybox", "nslookup", "mongodb").code != 0
    assert introduced("network", "rm", "mongo_network").code == 1
    introduced("rm", "-f", "-v", "mongodb").ok()
    assert introduced("network", "rm", "mongo_network").ok() == "mongo_network"
