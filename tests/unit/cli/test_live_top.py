"""skiff top without a container: the screen, and the keys."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.fake_engine import FakeEngine, Reply, Request

from skiff.cli.live_top import screen

PROGRAM = str(Path(__file__).parents[3] / "src/skiff/cli/__main__.py")


def row(name: str, cpu: float, used: int, tasks: int) -> dict[str, Any]:
    return {
        "name": name,
        "cpu": cpu,
        "used": used,
        "share": 1.0,
        "network": (1000, 2000),
        "blocks": (0, 0),
        "tasks": tasks,
        "status": "Up 2 hours",
        "image": "nginx",
    }


ROWS = [row("web", 5.0, 3 << 20, 1), row("db", 50.0, 1 << 20, 7), row("cache", 0.0, 9 << 20, 2)]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("c", ["db", "web", "cache"]),
        ("m", ["cache", "web", "db"]),
        ("p", ["db", "cache", "web"]),
        ("n", ["cache", "db", "web"]),
    ],
)
def test_the_order(order: str, names: list[str]) -> None:
    lines = screen(ROWS, order, lines=24, columns=120, coloured=False)
    assert [line.split()[0] for line in lines[2:5]] == names


def test_the_screen() -> None:
    assert screen(ROWS[:1], "c", lines=24, columns=120, coloured=False) == [
        "skiff top — 1 container, processor 5%, memory 3MiB, by processor",
        "NAME  CPU %   MEM  MEM %  NET IN / OUT  READ / WRITTEN  PIDS  STATUS      IMAGE",
        "web     5.0  3MiB    1.0     1kB / 2kB         0B / 0B     1  Up 2 hours  nginx",
        "c processor  m memory  p processes  n name   q leave",
    ]


@pytest.mark.parametrize("lines", [2, 4, 5, 24])
@pytest.mark.parametrize("columns", [1, 20, 80])
def test_it_fits_any_terminal(lines: int, columns: int) -> None:
    shown = screen(ROWS * 20, "c", lines=lines, columns=columns, coloured=False)
    assert len(shown) <= lines
    assert all(len(line) <= columns for line in shown)


def test_what_does_not_fit_is_counted() -> None:
    shown = screen(ROWS, "c", lines=5, columns=120, coloured=False)
    assert shown[-1].endswith("(1 more below)")


def test_colours_only_when_asked() -> None:
    assert "\x1b" in screen(ROWS, "c", lines=9, columns=80, coloured=True)[1]
    assert "\x1b" not in "".join(screen(ROWS, "c", lines=9, columns=80, coloured=False))


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    with FakeEngine(str(tmp_path / "e.sock")) as running:
        items = [{"Id": "1", "Names": ["/web"], "Image": "nginx", "Status": "Up 2 hours", "State": "running"}]
        running.route("GET /containers/json")(lambda request: Reply(200, items))

        @running.route("GET /containers/1/stats")
        def stats(request: Request) -> Reply:
            return Reply(
                200, {"id": "1", "name": "/web", "memory_stats": {"usage": 1 << 20, "limit": 2 << 20}}
            )

        yield running


def environment(engine: FakeEngine) -> dict[str, str]:
    return {"DOCKER_HOST": engine.url, "PATH": os.environ["PATH"], "TERM": "xterm", "NO_COLOR": "1"}


def test_a_pipe_gets_one_reading(engine: FakeEngine) -> None:
    command = [sys.executable, "-IS", PROGRAM, "top"]
    done = subprocess.run(command, env=environment(engine), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "NAME  CPU %   MEM  MEM %  NET IN / OUT  READ / WRITTEN  PIDS  STATUS      IMAGE",
        "web     0.0  1MiB   50.0       0B / 0B         0B / 0B     0  Up 2 hours  nginx",
    ]


def test_a_terminal_is_left_as_it_was(engine: FakeEngine) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-IS", PROGRAM, "top"], environment(engine))
    said = ""

    def until(part: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 20
        while part not in said:
            left = deadline - time.monotonic()
            assert left > 0, said
            if select.select([fd], [], [], left)[0]:
                said += os.read(fd, 65536).decode(errors="replace")

    try:
        until("by processor")
        os.write(fd, b"m")
        until("by memory")
        os.write(fd, b"q")
        until("\x1b[?25h\x1b[?1049l")
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 0
        assert "\x1b[7m" not in said
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)
