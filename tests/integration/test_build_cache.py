"""What changed → which steps ran: here, with the cache of another engine; and builds killed at every step."""

import hashlib
import io
import itertools
import json
import os
import socket
import tarfile
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


def classic_image(busybox_archive: bytes, name: str) -> bytes:
    """An archive of an image as Docker's classic builder makes it: ENV, a RUN that wrote /made, WORKDIR."""
    parts = {}
    with tarfile.open(fileobj=io.BytesIO(busybox_archive)) as archive:
        for entry in archive:
            if entry.isreg():
                file = archive.extractfile(entry)
                assert file is not None
                parts[entry.name] = file.read()
    (saved,) = json.loads(parts["manifest.json"])
    config = json.loads(parts[saved["Config"]])
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        made = tarfile.TarInfo("made")
        made.size = 9
        tar.addfile(made, io.BytesIO(b"elsewhere"))
    config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}")
    config.setdefault("history", [])
    config["history"] += [
        {"created_by": "/bin/sh -c #(nop)  ENV A=b", "empty_layer": True},
        {"created_by": "/bin/sh -c echo here > /made"},
        {"created_by": "/bin/sh -c #(nop)  LABEL x=y", "empty_layer": True},
    ]
    parts["added.tar"] = layer.getvalue()
    parts["config.json"] = json.dumps(config).encode()
    described = {"Config": "config.json", "RepoTags": [name], "Layers": [*saved["Layers"], "added.tar"]}
    parts["manifest.json"] = json.dumps([described]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in parts.items():
            if path.split("/")[0] not in ("index.json", "oci-layout", "repositories"):
                entry = tarfile.TarInfo(path)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def test_an_image_of_the_classic_builder_is_a_cache(
    own_engine: Engine, busybox_archive: bytes, tmp_path: Path
) -> None:
    reply = own_engine.client.post("/images/load", classic_image(busybox_archive, "classic:1"))
    assert b"errorDetail" not in reply.body, reply
    steps = ["FROM busybox", "ENV A=b", "RUN echo here > /made", "LABEL x=y", "RUN cp /made /copy"]
    (tmp_path / "Dockerfile").write_text("\n".join(steps))
    build = ("build", "--cache-from", "classic:1", "-t", "made", str(tmp_path))
    out = own_engine.skiff(*build).ok()
    assert out.count("Using cache") == 3
    assert out.count("Running in") == 1
    shown = own_engine.skiff("run", "--rm", "--network", "none", "made", "cat", "/copy").ok()
    assert shown == "elsewhere"
    own_engine.skiff("rmi", "made").ok()
    own_engine.skiff("builder", "prune", "-af").ok()
    steps[1] = "ENV A=c"
    (tmp_path / "Dockerfile").write_text("\n".join(steps))
    out = own_engine.skiff(*build).ok()
    assert "Using cache" not in out
    assert own_engine.skiff("run", "--rm", "--network", "none", "made", "cat", "/copy").ok() == "here"
