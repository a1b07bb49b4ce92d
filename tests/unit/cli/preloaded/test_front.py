"""The front, built and run, before a worker that the test plays."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from skiff.cli.preloaded.front import ACCEPTED, PACKET, SENT_ON, front
from skiff.linux import executable, machine, syscalls

pytestmark = pytest.mark.skipif(
    syscalls.architecture() not in machine.WALK, reason="no code for this architecture"
)

PATIENCE = 20
COLD = ("/bin/sh", "-c", "trap 'exit 5' TERM; echo cold $1; exit 3", "sh")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    numbers = syscalls.numbers(syscalls.architecture())
    calls, execve = front(numbers, executable.DATA, os.fsencode(tmp_path / "socket"))
    path = tmp_path / "front"
    path.write_bytes(executable.executable(syscalls.architecture(), calls.image(), execve))
    path.chmod(0o700)
    return path


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen()
        listening.settimeout(PATIENCE)
        yield listening


Accepted: TypeAlias = tuple[subprocess.Popen[str], socket.socket]


class Worker:
    """A process to send signals to, and the connection of the front that sends them."""

    def __init__(self, accepted: Accepted, script: str) -> None:
        _, self.door = accepted
        self.process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"
        self.say(ACCEPTED, self.process.pid)

    def say(self, *words: int) -> None:
        for word in words:
            self.door.send(PACKET.pack(word))

    def heard(self) -> str:
        out, _ = self.process.communicate(timeout=PATIENCE)
        return str(out)


def started(program: Path, **how: object) -> subprocess.Popen[str]:
    return subprocess.Popen([program, *COLD, "word"], stdout=subprocess.PIPE, text=True, **how)  # type: ignore[call-overload, no-any-return]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out


@pytest.fixture
def accepted(program: Path, listening: socket.socket) -> Iterator[Accepted]:
    process = started(program)
    door, _ = listening.accept()
    with door:
        assert door.recv(8) == bytes(8)
        yield process, door
    process.kill()
    process.wait()


def test_nobody_listens(program: Path) -> None:
    assert ended(started(program)) == (3, "cold word\n")


def test_refused(program: Path, listening: socket.socket) -> None:
    process = started(program)
    listening.accept()[0].close()
    assert ended(process) == (3, "cold word\n")


def test_a_worker_that_is_gone_before_it_is_heard(accepted: Accepted) -> None:
    process, door = accepted
    os.kill(process.pid, signal.SIGSTOP)
    for word in (ACCEPTED, 0x7FFFFFFE, 0, 6):
        door.send(PACKET.pack(word))
    door.close()
    os.kill(process.pid, signal.SIGCONT)
    assert ended(process) == (6, "")


def test_a_worker_that_is_gone_before_it_has_said_much(accepted: Accepted) -> None:
    process, door = accepted
    door.send(PACKET.pack(ACCEPTED))
    door.close()
    assert ended(process) == (-signal.SIGKILL, "")  # the command may have begun: not again


def test_its_number_is_taken(program: Path, listening: socket.socket) -> None:
    with socket.socket() as other:
        process = started(program, preexec_fn=lambda: os.dup2(other.fileno(), 1000), close_fds=False)
        assert ended(process) == (3, "cold word\n")


def test_it_tells_what_was_blocked(program: Path, listening: socket.socket) -> None:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})

    process = started(program, preexec_fn=block)
    door, _ = listening.accept()
    with door:
        (blocked,) = PACKET.unpack(door.recv(8))
    assert blocked == 1 << signal.SIGHUP - 1 | 1 << signal.SIGTERM - 1
    process.kill()
    process.communicate()


def test_becoming_another_leaves_signals_as_they_were(program: Path) -> None:
    script = 'kill -TERM $$; echo "not this"'
    done = subprocess.run([program, "/bin/sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("code", [0, 1, 125, 255])
def test_it_ends_as_the_worker_ends(code: int, accepted: Accepted) -> None:
    process, door = accepted
    worker = Worker(accepted, "echo up")
    worker.say(0, code)
    door.close()
    assert ended(process) == (code, "")
    worker.heard()


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGIO])
def test_it_dies_as_the_worker_dies(number: int, accepted: Accepted) -> None:
    process, _door = accepted
    worker = Worker(accepted, "echo up")
    worker.say(number, 128 + number)
    assert ended(process) == (-number, "")
    worker.heard()


def test_it_is_killed_with_the_worker(accepted: Accepted) -> None:
    process, door = accepted
    worker = Worker(accepted, "echo up")
    door.close()
    assert ended(process) == (-signal.SIGKILL, "")
    worker.heard()


def test_signals_are_sent_on(accepted: Accepted) -> None:
    process, _door = accepted
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGWINCH, signal.SIGTERM]
    traps = "".join(f"trap 'echo {int(number)}' {int(number)};" for number in numbers)
    worker = Worker(accepted, f"{traps} trap 'exit 0' USR2; echo up; while :; do sleep 0.01; done")
    assert worker.process.stdout is not None
    for number in numbers:
        process.send_signal(number)
        assert worker.process.stdout.readline() == f"{int(number)}\n"
    assert process.poll() is None
    process.send_signal(signal.SIGUSR2)
    worker.heard()
    worker.say(0, 11)
    assert ended(process) == (11, "")


def test_it_waits_without_work(accepted: Accepted) -> None:
    process, _door = accepted
    worker = Worker(accepted, "echo up; sleep 0.3")
    worker.heard()
    ticks = [int(word) for word in Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]]
    assert sum(ticks) <= 1
    process.send_signal(signal.SIGUSR1)  # whose worker has gone, but has not said how
    time.sleep(0.1)
    worker.say(0, 2)
    assert ended(process) == (2, "")


def test_which_signals() -> None:
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGIO} <= set(SENT_ON)
    assert not {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT, signal.SIGSEGV} & set(SENT_ON)


def test_a_path_that_no_socket_can_have() -> None:
    with pytest.raises(ValueError, match="107 bytes"):
        front(syscalls.numbers("x86_64"), executable.DATA, b"/" + b"x" * 107)
