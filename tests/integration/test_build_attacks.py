"""Builds cut short wherever they are, and contexts that mean ill: nothing is left, nothing gets out."""

import contextlib
import io
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.linux.namespaces import open_namespace, setns
from tests.integration.engines import Engine, wait_for
from tests.integration.test_build import build, context, image, ran, request, text


def remains(engine: Engine) -> list[str]:
    """What builds may hold only while they run."""
    root = Path(engine.root)
    found = [f"mount {point}" for point in engine.mounts() if "/builds" in point or "build-" in point]
    for place in ("data/builds", "run/tasks"):
        found += [f"{place}/{name}" for name in (os.listdir(root / place) if (root / place).exists() else ())]
    found += [f"process {pid}" for name in ("sleep", "sh", "cat") for pid in engine.processes_called(name)]
    return found


def is_idle(engine: Engine) -> None:
    wait_for(lambda: not remains(engine), 20, lambda: str(remains(engine)))


@pytest.fixture
def tidy(engine: Engine) -> Iterator[Engine]:
    yield engine
    is_idle(engine)


@contextlib.contextmanager
def silent(engine: Engine) -> Iterator[int]:
    """A server in the engine's network that takes connections and says nothing: its port."""
    listeners: list[socket.socket] = []

    def listen() -> None:
        namespace = open_namespace(engine.network.path)
        setns(namespace)  # of this thread alone
        os.close(namespace)
        listeners.append(socket.create_server(("127.0.0.1", 0)))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    with listeners[0] as listener:  # the kernel takes connections for it; nobody accepts them
        yield listener.getsockname()[1]


GOOD = "FROM busybox\nRUN echo kept > /kept\n"
CUT = {
    "RUN": ("RUN sleep 600\n", b"Step 3/3"),
    "RUN that says much": (
        "RUN while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done\n",
        b"aaaa",
    ),
    "RUN that says one line for ever": ("RUN yes aaaa | tr -d '\\n'\n", b"aaaa"),
    "RUN with a cache": ("RUN --mount=type=cache,target=/c sleep 600\n", b"Step 3/3"),
    "COPY": ("COPY big /big\n", b"Step 3/3"),
    "ADD of a URL": ("ADD http://127.0.0.1:{port}/f /f\n", b"Step 3/3"),
}


@pytest.mark.parametrize("where", CUT)
def test_a_build_that_is_cut_short(tidy: Engine, where: str) -> None:
    words, sign = CUT[where]
    with silent(tidy) as port:
        dockerfile = GOOD + words.format(port=port)
        files = {"big": os.urandom(30 << 20)} if "big" in words else {}
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(tidy.socket)
            stream.sendall(request(context(Dockerfile=dockerfile, **files)))
            said = b""
            while sign not in said:
                said += stream.recv(1 << 16)
        is_idle(tidy)
    assert ran(build(tidy, context(Dockerfile=GOOD))) == []


def test_a_pull_that_is_cut_short(tidy: Engine) -> None:
    with silent(tidy) as port, socket.socket(socket.AF_UNIX) as stream:
        stream.connect(tidy.socket)
        stream.sendall(request(context(Dockerfile=f"FROM 127.0.0.1:{port}/image\nRUN true\n")))
        said = b""
        while b"Step 1/2 : FROM" not in said:
            said += stream.recv(1 << 16)
    is_idle(tidy)


def test_a_client_that_leaves_while_it_sends(tidy: Engine) -> None:
    whole = request(context(Dockerfile=GOOD, big=os.urandom(4 << 20)))
    for part in (200, 5000, 2 << 20, len(whole) - 600):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(tidy.socket)
            stream.sendall(whole[:part])
    is_idle(tidy)


def test_a_client_that_reads_nothing_does_not_fill_the_engine(tidy: Engine) -> None:
    dockerfile = "FROM busybox\nRUN while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done\n"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(tidy.socket)
        stream.sendall(request(context(Dockerfile=dockerfile)))
        while b"aaaa" not in stream.recv(1 << 16):
            pass
        assert tidy.process is not None
        before = memory(tidy.process.pid)
        threading.Event().wait(3)
        assert memory(tidy.process.pid) - before < 64 << 20


def memory(pid: int) -> int:
    """Bytes of it that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_two_builds_of_one_dockerfile_side_by_side(tidy: Engine) -> None:
    dockerfile = GOOD + "".join(f"RUN sleep 0.3; echo {n} > /{n}\n" for n in range(3)) + "COPY f /f\n"
    found: list[str] = []

    def one() -> None:
        found.append(image(build(tidy, context(Dockerfile=dockerfile, f="f"))))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert ran(build(tidy, context(Dockerfile=dockerfile, f="f"))) == []


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **how: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.devmajor, made.devminor = 1, 3
    for field, value in how.items():
        setattr(made, field, value)
    return made


HOSTILE = {
    "a hard link out": [entry("x", tarfile.LNKTYPE, "../../../../../../etc/hostname")],
    "an absolute hard link": [entry("x", tarfile.LNKTYPE, "/etc/hostname")],
    "a hard link through a link": [
        entry("d", tarfile.SYMTYPE, "/etc"),
        entry("x", tarfile.LNKTYPE, "d/hostname"),
    ],
    "a hard link to a link": [entry("d", tarfile.SYMTYPE, "/etc/hostname"), entry("x", tarfile.LNKTYPE, "d")],
    "a directory that is a link": [entry("x", tarfile.SYMTYPE, "/etc"), entry("x", tarfile.DIRTYPE)],
    "a link to the host": [entry("x", tarfile.SYMTYPE, "/etc/hostname")],
    "a link up": [entry("x", tarfile.SYMTYPE, "../../../../../../../../etc/hostname")],
    "a device": [entry("x", tarfile.CHRTYPE)],
    "a disk": [entry("x", tarfile.BLKTYPE)],
    "a pipe": [entry("x", tarfile.FIFOTYPE)],
    "a name of a megabyte": [entry("x" * (1 << 20))],
    "a path of a thousand directories": [entry("x/" * 1100 + "x")],
    "a file that is a directory": [entry("x"), entry("x/y")],
    "an owner beyond all": [entry("x", uid=1 << 40)],
    "a time beyond all": [entry("x", mtime=1 << 50)],
    "a Dockerfile that is a pipe": [entry("Dockerfile", tarfile.FIFOTYPE)],
    "a Dockerfile that is a directory": [entry("Dockerfile", tarfile.DIRTYPE)],
    "a Dockerfile of the host": [entry("Dockerfile", tarfile.SYMTYPE, "/etc/hostname")],
    "a .dockerignore of the host": [entry(".dockerignore", tarfile.SYMTYPE, "/etc/hostname")],
    "a .dockerignore that is a pipe": [entry(".dockerignore", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_contexts(tidy: Engine, attack: str) -> None:
    """Built or refused in words; nothing of the host is in the image."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        shown = b"for f in x d/hostname; do [ ! -f /taken/$f ] || cat /taken/$f; done"
        data = b"FROM busybox\nCOPY . /taken\nRUN %s\n" % shown
        tar.addfile(entry("Dockerfile", size=len(data)), io.BytesIO(data))
        for one in HOSTILE[attack]:
            tar.addfile(one)
    reply = tidy.client.post("/build", out.getvalue(), nocache=1)
    assert reply.status in (200, 400), reply
    assert Path("/etc/hostname").read_text().strip().encode() not in reply.body.replace(
        b"buildkitsandbox", b""
    )
    assert tidy.client.get("/_ping").status == 200


IGNORING = {
    "many stars": b"**a" * 60 + b"b\n" + b"*a" * 60 + b"b\n",
    "many patterns": b"".join(b"x%d/**/y*z\n" % n for n in range(9000)),
    "too many patterns": b"".join(b"x%d\n" % n for n in range(20_000)),
    "a very long pattern": b"a" * (1 << 20) + b"\n",
    "no text": bytes(range(256)) * 100,
    "up and out": b"!../../../../etc/**\n../**\n/\n..\n",
    "everything, itself and the Dockerfile": b"*\n**\n.dockerignore\nDockerfile\n",
    "a lone mark": b"!\n",
    "a malformed pattern": b"[a\n",
}


@pytest.mark.parametrize("attack", IGNORING)
def test_hostile_dockerignore(tidy: Engine, attack: str) -> None:
    names = {f"d__{'a' * 200}{n}": "x" for n in range(20)}
    files: dict[str, str | bytes] = {
        "Dockerfile": "FROM busybox\nCOPY . /taken\n",
        ".dockerignore": IGNORING[attack],
        **names,
    }
    reply = tidy.client.post("/build", context(**files), nocache=1)
    assert reply.status in (200, 400), reply


def test_hostile_patterns_of_copy(tidy: Engine) -> None:
    names = {f"d__{'a' * 200}{n}": "x" for n in range(20)}
    dockerfile = f"FROM busybox\nCOPY d/{'*a' * 60}b /x/\nCOPY d /y\n"
    assert "Successfully built" in text(build(tidy, context(Dockerfile=dockerfile, **names), nocache=1))
