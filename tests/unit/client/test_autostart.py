"""client/autostart.py with a program that stands in for skiffd."""

import os
import posix
import signal
import sys
from pathlib import Path

import pytest

from skiff.client import autostart
from skiff.client.endpoint import Endpoint
from skiff.errors import Unavailable


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(autostart, "FOLDER", str(tmp_path / "run"))
    monkeypatch.setattr(autostart, "LOCK_FILE", str(tmp_path / "run/autostart.lock"))
    monkeypatch.setattr(autostart, "LOG_FILE", str(tmp_path / "skiffd.log"))
    monkeypatch.setitem(posix.environ, b"SOCKET_FOR_TEST", str(tmp_path / "e.sock").encode())
    return tmp_path


def stand_in(place: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = place / "python"
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_it_comes_back_when_the_socket_answers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        place,
        "import os, socket, time\ns = socket.socket(socket.AF_UNIX)\ns.bind(os.environ['SOCKET_FOR_TEST'])\n"
        "s.listen()\nprint(os.getsid(0) == os.getpid(), flush=True)\ntime.sleep(60)",
        monkeypatch,
    )
    endpoint = Endpoint(f"unix://{place}/e.sock")
    pid = autostart.start_engine(endpoint)
    assert pid is not None
    try:
        assert autostart.start_engine(endpoint) is None
        assert (place / "skiffd.log").read_text() in ("", "True\n")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_dead_engine_is_told_with_its_last_words(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(place, "import sys\nprint('no such kernel', flush=True)\nsys.exit(3)", monkeypatch)
    with pytest.raises(Unavailable, match=r"exit code 3\).*no such kernel"):
        autostart.start_engine(Endpoint(f"unix://{place}/e.sock"))
