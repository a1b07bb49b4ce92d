"""When a server of loaded command lines ends, and what it leaves: nothing."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skiff.linux import machine, syscalls

pytestmark = pytest.mark.skipif(
    syscalls.architecture() not in machine.WALK, reason="no code for this architecture"
)

SOURCE = Path(__file__).parents[4] / "src/skiff"
PATIENCE = 20
START = """import sys
sys.path.insert(0, sys.argv.pop(1))
from skiff.cli.preloaded import server
server.IDLE = float(sys.argv.pop(1))
server.main()
"""


class Server:
    def __init__(self, root: Path, *, idle: float = 600) -> None:
        self.front = root / "front"
        self.files = [root / "socket", root / "one.front", root / "other.front"]
        before = inode(self.files[-1])
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [
                *(sys.executable, "-Ic", START, root / "source", str(idle)),
                *(self.files[0], self.front, *self.files[1:]),
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: inode(self.files[-1]) != before or self.process.poll() is not None)

    def ended(self) -> int:
        return self.process.wait(PATIENCE)


def inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    shutil.copytree(SOURCE, tmp_path / "source/skiff", ignore=shutil.ignore_patterns("__pycache__"))
    servers = []

    def start(**how: float) -> Server:
        servers.append(Server(tmp_path, **how))
        return servers[-1]

    yield start
    for server in servers:
        with server.process:
            server.process.kill()


def left(server: Server) -> list[Path]:
    return [path for path in server.files if path.exists()]


def test_it_ends_with_its_engine(started: Callable[..., Server]) -> None:
    server = started()
    assert left(server) == server.files
    assert [path.stat().st_mode & 0o777 for path in server.files] == [0o600, 0o600, 0o600]
    assert server.front.stat().st_mode & 0o777 == 0o700
    assert server.files[1].read_text() == f"{server.front}\n"
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.ended() == 0
    assert not left(server)


def test_it_ends_for_want_of_calls(started: Callable[..., Server]) -> None:
    server = started(idle=0.1)
    assert server.ended() == 0
    assert not left(server)


@pytest.mark.parametrize("change", ["edit", "add", "remove", "replace"])
def test_it_ends_when_its_files_change(change: str, started: Callable[..., Server], tmp_path: Path) -> None:
    server = started()
    client = tmp_path / "source/skiff/client"
    match change:
        case "edit":
            with open(client / "tls.py", "a") as file:
                file.write("# edited\n")
        case "add":
            (client / "more.py").touch()
        case "remove":
            (client / "tls.py").unlink()
        case "replace":
            (tmp_path / "source/skiff").rename(tmp_path / "source/old")
    assert server.ended() == 0
    assert not left(server)


def test_who_calls_then_is_hung_up_on(started: Callable[..., Server], tmp_path: Path) -> None:
    """His front becomes what it was given."""
    server = started()
    os.kill(server.process.pid, 19)  # it cannot fork another worker
    first = [str(server.front), "/bin/echo", "cold"]
    assert subprocess.run(first, stdin=subprocess.DEVNULL, capture_output=True).stdout == b"cold\n"
    waiting = subprocess.Popen(first, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    (tmp_path / "source/skiff/client/more.py").touch()
    os.kill(server.process.pid, 18)
    assert waiting.communicate(timeout=PATIENCE)[0] == b"cold\n"
    assert server.ended() == 0


def test_files_of_another_server_stay(started: Callable[..., Server]) -> None:
    server, other = started(), started()
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.ended() == 0
    assert left(other) == other.files
    called = subprocess.run([other.front, "/bin/echo", "cold"], stdin=subprocess.DEVNULL)
    assert called.returncode == 0


def test_where_it_cannot_be(started: Callable[..., Server], tmp_path: Path) -> None:
    """One line says why, and nothing is left."""
    (tmp_path / "front").mkdir()
    server = started()
    assert server.ended() == 1
    assert server.process.stderr is not None
    (line,) = server.process.stderr.read().splitlines()
    assert line.startswith("skiffd: the command line is not kept loaded: ")
