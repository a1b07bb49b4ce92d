"""Engines that are not on a unix socket here: tcp with TLS, and ssh."""

import os
import posix
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply

from skiff.client.connection import Connection
from skiff.client.endpoint import CannotConnect, Endpoint, TlsFiles

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", "key.pem", "-out", "cert.pem", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as sock:
                    while sock.recv(65536):
                        sock.sendall(ANSWER)
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_tls_is_verified(certificate: Path, port: int) -> None:
    url = f"tcp://localhost:{port}"
    trusting = Connection(Endpoint(url, tls=TlsFiles(f"{certificate}/cert.pem")))
    assert trusting.request("GET", "/a").json() == {}
    assert trusting.request("GET", "/a").json() == {}
    trusting.close()  # the server above takes one connection after the other
    careless = Connection(Endpoint(url, tls=TlsFiles(verify=False)))
    assert careless.request("GET", "/a").json() == {}
    careless.close()
    with pytest.raises(CannotConnect, match="tls"):
        Connection(Endpoint(url, tls=TlsFiles())).request("GET", "/a")


def test_ssh_joins_us_to_dial_stdio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f"#!{sys.executable}\n"
        "import os, socket, sys, threading\n"
        f"open({str(tmp_path / 'words')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({str(tmp_path / 'e.sock')!r})\n"
        "def up():\n"
        "    while data := os.read(0, 65536): s.sendall(data)\n"
        "    s.shutdown(socket.SHUT_WR)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setitem(posix.environ, b"PATH", os.fsencode(f"{tmp_path}:/usr/bin:/bin"))
    with FakeEngine(str(tmp_path / "e.sock")) as engine:
        engine.route("GET /a")(lambda _: Reply(body=[1]))
        connection = Connection(Endpoint("ssh://me@far:2222"))
        assert connection.request("GET", "/a").json() == [1]
        connection.close()
    words = (tmp_path / "words").read_text()
    assert words == "-l me -p 2222 -o ConnectTimeout=30 -T -- far docker system dial-stdio"
