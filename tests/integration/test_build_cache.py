"""What changed → which steps ran: here, with the cache of another engine; and builds killed at every step."""

import itertools
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engines import Engine, wait_for
from tests.integration.test_build import build, context, image, ran, request
from tests.integration.test_own_registry import serving

DOCKERFILE = """ARG TAG=latest
FROM busybox:${TAG} AS tools
RUN echo tool > /tool
FROM busybox
ARG WHO=world
ENV LEVEL=1
WORKDIR /app
COPY requirements ./
RUN cat requirements > installed
COPY src src
RUN --mount=type=bind,source=config,target=/config cat /config > configured
COPY --from=tools /tool /usr/tool
RUN echo $WHO > greeting
LABEL version=1
"""
FILES = {"requirements": "flask", "src__app__py": "print()", "config": "c", "other": "o"}
FROM_THE_COPY = ["COPY", "RUN", "COPY", "RUN", "COPY", "RUN", "LABEL"]

# (what changes: files, build arguments) → the steps that run again
CHANGES: dict[str, tuple[dict[str, str], dict[str, str], list[str]]] = {
    "nothing": ({}, {}, []),
    "a file that nothing takes": ({"other": "changed"}, {}, []),
    "a file of the first COPY": ({"requirements": "django"}, {}, FROM_THE_COPY),
    "a file of the second COPY": ({"src__app__py": "2"}, {}, ["COPY", "RUN", "COPY", "RUN", "LABEL"]),
    "one more file of the second COPY": ({"src__b": "2"}, {}, ["COPY", "RUN", "COPY", "RUN", "LABEL"]),
    "a file of a bind mount": ({"config": "d"}, {}, ["RUN", "COPY", "RUN", "LABEL"]),
    "an argument that is used": ({}, {"WHO": "you"}, ["ARG", "ENV", *FROM_THE_COPY[1:]]),
    "an argument that nobody has": ({}, {"NOBODY": "1"}, []),
    "a comment": ({"Dockerfile": "# more\n" + DOCKERFILE}, {}, []),
    "a label": ({"Dockerfile": DOCKERFILE.replace("version=1", "version=2")}, {}, ["LABEL"]),
    "a command": (
        {"Dockerfile": DOCKERFILE.replace("> greeting", "> hello")},
        {},
        ["RUN", "LABEL"],
    ),
    "a variable": (
        {"Dockerfile": DOCKERFILE.replace("LEVEL=1", "LEVEL=2")},
        {},
        ["ENV", *FROM_THE_COPY[1:]],
    ),
    "the other stage": (
        {"Dockerfile": DOCKERFILE.replace("echo tool", "echo hammer")},
        {},
        ["RUN", "COPY", "RUN", "LABEL"],
    ),
    "the order of two steps": (
        {"Dockerfile": DOCKERFILE.replace("COPY src src\n", "").replace("LABEL", "COPY src src\nLABEL")},
        {},
        ["RUN", "COPY", "RUN", "COPY", "LABEL"],
    ),
}


def first(files: dict[str, str]) -> bytes:
    return context(**({"Dockerfile": DOCKERFILE} | FILES | files))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_and_what_ran(engine: Engine, change: str) -> None:
    files, arguments, expected = CHANGES[change]
    salt = {"requirements": f"flask {change}"}  # each row begins with nothing
    image(build(engine, first(salt)))
    events = build(engine, first(salt | files), buildargs=json.dumps(arguments))
    image(events)
    assert ran(events) == expected


@pytest.mark.parametrize("kind", ["local", "registry"])
def test_what_changed_and_what_ran_with_a_cache_from_elsewhere(
    engine: Engine, own_engine: Engine, tmp_path: Path, kind: str
) -> None:
    for name, text in ({"Dockerfile": DOCKERFILE} | FILES).items():
        path = tmp_path / "context" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    where = str(tmp_path / "context")
    with serving(own_engine) as registry:
        place = {
            "local": (f"type=local,dest={tmp_path}/cache,mode=max", f"type=local,src={tmp_path}/cache"),
            "registry": (f"type=registry,ref={registry.address}/cache:1,mode=max", ""),
        }[kind]
        source = place[1] or f"type=registry,ref={registry.address}/cache:1"
        own_engine.skiff("build", "--no-cache", "-q", "--cache-to", place[0], where).ok()
        own_engine.skiff("builder", "prune", "-af").ok()
        for id in own_engine.skiff("images", "-aq", "--filter", "dangling=true").ok().split():
            own_engine.skiff("rmi", "-f", id)
        out = own_engine.skiff("build", "--cache-from", source, where).ok()
        assert "Running in" not in out
        assert "[Warning]" not in out
        own_engine.skiff("builder", "prune", "-af").ok()
        (tmp_path / "context/config").write_text("changed")
        out = own_engine.skiff("build", "--cache-from", source, where).ok()
    steps = [line for line in out.splitlines() if line.startswith(("Step ", " ---> Running in"))]
    again = [
        before.partition(" : ")[2].split()[0]
        for before, line in itertools.pairwise(steps)
        if line.startswith(" ---> Running")
    ]
    assert again == ["RUN", "RUN", "LABEL"]


KILLED = "FROM busybox\n" + "".join(f"RUN echo {n} > /{n}; sleep 0.3\n" for n in range(4))


@pytest.fixture
def killed(own_engine: Engine) -> Iterator[Engine]:
    yield own_engine
    wait_for(lambda: not os.listdir(f"{own_engine.root}/data/builds"), 10, lambda: "a context is left")


def test_a_build_killed_at_every_step_keeps_the_good_ones(killed: Engine) -> None:
    body = context(Dockerfile=KILLED)
    for step in range(1, 5):
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(killed.socket)
        stream.sendall(request(body))
        said = b""
        while f"Step {step + 1}/5".encode() not in said or b"Running in" not in said.rpartition(b"Step ")[2]:
            said += stream.recv(4096)
        killed.crash()
        stream.close()
        assert said.count(b"Using cache") == max(0, step - 2)  # those that were done before the last kill
        killed.start()
    events = build(killed, body)
    image(events)
    assert ran(events) == ["RUN"]
    snapshots = killed.client.get("/skiff/check").json()
    assert not snapshots.get("Problems"), snapshots
