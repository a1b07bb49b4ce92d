"""People at a terminal, with either command line: sizes, signals, detaching."""

import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.integration.engines import SKIFF, Engine, wait_for
from tests.integration.terminals import Terminal, terminal

Sit = Callable[..., AbstractContextManager[Terminal]]


@pytest.fixture(params=["skiff", "docker"])
def at(engine: Engine, request: pytest.FixtureRequest) -> Sit:
    """at(*words): the command line with these words, on a terminal of 24 × 80."""
    program = SKIFF if request.param == "skiff" else ("docker",)

    def sit(*words: str) -> AbstractContextManager[Terminal]:
        return terminal([*engine.network.enter, *program, *words], engine.client_environment())

    return sit


def test_a_shell(at: Sit) -> None:
    with at("run", "--rm", "-it", "busybox", "sh") as screen:
        screen.expect(b"# ")
        screen.type(b"stty size; echo $TERM; test -t 0 && echo a-tty\r")
        screen.expect(b"24 80")
        screen.expect(b"xterm")
        screen.expect(b"a-tty\r\n")
        screen.type(b"exit 5\r")
        assert screen.end() == 5


def test_the_window_s_size_follows(at: Sit) -> None:
    with at(
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'stty size' WINCH; trap 'exit 0' INT; echo up; while :; do sleep 0.1; done",
    ) as screen:
        screen.expect(b"up")
        # The client begins to listen for changes some time after the start.
        wait_for(lambda: _resized(screen), 10, lambda: repr(screen.shown))
        screen.type(b"\x03")
        assert screen.end() == 0


def test_interrupts_reach_the_program(at: Sit) -> None:
    with at(
        "run", "--rm", "-it", "busybox", "sh", "-c", "trap 'exit 9' INT; echo up; while :; do sleep 0.1; done"
    ) as screen:
        screen.expect(b"up")
        screen.type(b"\x03")
        assert screen.end() == 9


def test_detaching_and_coming_back(at: Sit, engine: Engine) -> None:
    with at("run", "-it", "--name", "web", "busybox", "sh") as screen:
        screen.expect(b"# ")
        screen.type(b"\x10\x11")
        assert screen.end() == 0
    assert b"escape" not in screen.shown
    with at("exec", "-it", "web", "sh") as screen:
        screen.expect(b"# ")
        screen.type(b"\x10\x11")
        screen.expect(b"read escape sequence")
        assert screen.end() == 1
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "web").ok() == "running"
    with at("attach", "--detach-keys", "ctrl-a,d", "web") as screen:
        screen.type(b"echo still-$((40+2))\r")
        screen.expect(b"still-42")
        screen.type(b"\x01d")
        screen.expect(b"read escape sequence")
        assert screen.end() == 1
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "web").ok() == "running"


def test_three_interrupts_end_the_command_line(at: Sit, engine: Engine) -> None:
    with at("run", "--name", "web", "busybox", "sleep", "600") as screen:
        running = ("inspect", "-f", "{{.State.Running}}", "web")
        wait_for(lambda: engine.docker(*running).out == "true\n", 15, lambda: "it does not start")
        for _ in range(3):
            screen.process.send_signal(signal.SIGINT)
            time.sleep(1)  # two at once would be one signal
        screen.expect(b"got 3 SIGTERM/SIGINTs, forcefully exiting")
        assert screen.end() == 1
    assert engine.docker(*running).out == "true\n"


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_jobs_are_stopped_and_brought_back(at: Sit, engine: Engine, verb: str) -> None:
    if verb == "run":
        words: tuple[str, ...] = ("run", "--rm", "-it", "busybox", "sh")
    else:
        engine.docker("run", "-d", "--name", "box", "busybox", "sleep", "600").ok()
        words = ("exec", "-it", "box", "sh")
    with at(*words) as screen:
        screen.expect(b"# ")
        assert b"job control turned off" not in screen.passed
        # It says so when it goes on, and the shell has made it the foreground by then.
        screen.type(b"sh -c 'trap \"echo back\" CONT; echo job-$((40+2)); while sleep 0.1; do :; done'\r")
        screen.expect(b"job-42")
        screen.type(b"\x1a")
        screen.expect(b"Stopped")
        screen.expect(b"# ")
        screen.type(b"fg\r")
        screen.expect(b"back\r\n")
        screen.type(b"\x03")
        screen.expect(b"# ")
        screen.type(b"jobs; echo none-$?; exit 7\r")
        screen.expect(b"none-0")
        assert screen.end() == 7


def test_exec_on_a_terminal(at: Sit, engine: Engine) -> None:
    engine.docker("run", "-d", "--name", "web", "busybox", "sleep", "600").ok()
    with at("exec", "-it", "web", "sh") as screen:
        screen.expect(b"# ")
        screen.type(b"stty size\r")
        screen.expect(b"24 80")
        screen.resize(50, 100)
        wait_for(lambda: _size(screen) == b"50 100", 10, lambda: repr(screen.shown))
        screen.type(b"exit 3\r")
        assert screen.end() == 3


def test_without_a_terminal_it_is_refused(engine: Engine) -> None:
    for run in (engine.skiff, engine.docker):
        done = run("run", "--rm", "-it", "busybox", "true", input=b"")
        assert done.code == 1
        assert "the input device is not a TTY" in done.err


def _resized(screen: Terminal) -> bool:
    screen.resize(40, 132)
    try:
        screen.expect(b"40 132", 0.5)
    except AssertionError:
        return False
    return True


def _size(screen: Terminal) -> bytes:
    screen.type(b"echo =$(stty size)=\r")
    screen.expect(b"\r\n=")
    screen.expect(b"# ")
    return screen.passed.partition(b"=")[0]
