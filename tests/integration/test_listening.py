"""The ways in: tcp, TLS, a socket from the service manager, a web socket."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.client import Client, read_to_end, unframed
from tests.integration.engines import LEAVE_SECONDS, Engine, wait_for

# As a service manager does it: the socket is descriptor 3, the pid is told. argv: descriptor, command…
HANDOVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """ca.pem, cert.pem and key.pem, good for 127.0.0.1 on both sides."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl("req", *key[:5], "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=engine")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"),
        *("-out", "cert.pem", "-days", "2", "-extfile", "names"),
    )
    return tmp_path


@pytest.fixture
def tls_engine(certificates: Path, busybox_archive: bytes) -> Iterator[tuple[Engine, str]]:
    port = free_port()
    names = (("cacert", "ca"), ("cert", "cert"), ("key", "key"))
    files = [word for flag, name in names for word in (f"--tls{flag}", f"{certificates}/{name}.pem")]
    engine = Engine("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", *files)
    try:
        engine.start()
        assert engine.client.post("/images/load", busybox_archive).status == 200
        yield engine, f"tcp://127.0.0.1:{port}"
    finally:
        engine.close()


def test_tls_carries_streams_too(tls_engine: tuple[Engine, str], certificates: Path) -> None:
    engine, address = tls_engine
    files = [f"--tlscacert={certificates}/ca.pem", f"--tlscert={certificates}/cert.pem"]
    tls = ("-H", address, "--tlsverify", *files, f"--tlskey={certificates}/key.pem")
    run = ("run", "--rm", "--network", "none", "busybox")
    assert engine.docker(*tls, *run, "echo", "hello").ok() == "hello"
    assert len(engine.docker(*tls, *run, "head", "-c", "2000000", "/dev/zero").ok()) == 2_000_000
    stranger = engine.docker("-H", address, "--tls", "version")
    assert stranger.code == 1


def test_a_socket_from_the_service_manager(own_engine: Engine) -> None:
    own_engine.stop()
    path = f"{own_engine.root}/passed"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        command = [
            word if word != f"unix://{own_engine.socket}" else "fd://" for word in own_engine.command()
        ]
        handover = [sys.executable, "-c", HANDOVER, str(listening.fileno())]
        own_engine.process = subprocess.Popen(
            handover + command,
            env=own_engine.environment(),
            pass_fds=(listening.fileno(),),
            stderr=subprocess.DEVNULL,
        )
    client = Client(path)
    assert client.get("/_ping").body == b"OK"
    own_engine.stop()
    # It is the service manager's socket: it stays.
    assert os.path.exists(path)


def test_ready_and_stopping_are_told(own_engine: Engine) -> None:
    own_engine.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{own_engine.root}/notify")
        manager.settimeout(20)
        own_engine.process = subprocess.Popen(
            own_engine.command(),
            env=own_engine.environment() | {"NOTIFY_SOCKET": f"{own_engine.root}/notify"},
            stderr=subprocess.DEVNULL,
        )
        assert manager.recv(100) == b"READY=1"
        assert own_engine.client.get("/_ping").status == 200
        own_engine.process.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        own_engine.process.wait(LEAVE_SECONDS)


def test_a_web_socket_attaches(engine: Engine) -> None:
    wish = {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True, "Tty": False}
    id = engine.client.post("/containers/create", wish | {"HostConfig": {"NetworkMode": "none"}}).json()["Id"]
    assert engine.client.post(f"/containers/{id}/start").status == 204

    async def talk() -> bytes:
        connector = aiohttp.UnixConnector(engine.socket)
        async with aiohttp.ClientSession(connector=connector) as session:
            target = f"http://x/containers/{id}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1"
            async with session.ws_connect(target) as client:
                await client.send_str("hello\n")
                return await asyncio.wait_for(client.receive_bytes(), 10)

    assert asyncio.run(talk()) == b"hello\n"
    wait_for(
        lambda: engine.client.get(f"/containers/{id}/json").json()["State"]["Status"] == "exited",
        10,
        lambda: "cat did not see the end of its input",
    )


def test_bytes_written_ahead_reach_the_exec(engine: Engine) -> None:
    id = engine.docker("run", "-d", "--network", "none", "busybox", "sleep", "600").ok()
    wish = {"AttachStdin": True, "AttachStdout": True, "Cmd": ["cat"]}
    exec_id = engine.client.post(f"/containers/{id}/exec", wish).json()["Id"]
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(20)
        stream.connect(engine.socket)
        head = f"POST /exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        stream.sendall(head.encode() + b"Content-Length: 2\r\n\r\n{}written ahead")
        stream.shutdown(socket.SHUT_WR)
        answer, _, output = read_to_end(stream).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert unframed(output) == {1: b"written ahead"}
