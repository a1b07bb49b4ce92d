"""The streams of a process: to the log and to clients, and back; nothing lost, nobody waited for in vain."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.docker import stdcopy
from skiff.runtime.monitor.logs import JsonFile, NoLog
from skiff.runtime.monitor.poller import Poller
from skiff.runtime.monitor.streams import QUEUE_LIMIT, Streams, pipes
from skiff.runtime.protocol import Attach, LogConfig


class Process:
    """Its side of the pipes, and ours."""

    def __init__(self, log: JsonFile | None = None, **how: bool) -> None:
        self.poller = Poller()
        self.streams = Streams(self.poller, log or NoLog(), **how)
        (self.stdin, self.stdout, self.stderr), ours = pipes(stdin=True)
        self.streams.connect(*ours)

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            self.poller.run_once(0)

    def client(self, gate: int = -1, **wish: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(2)
        self.streams.attach(theirs, Attach(**wish), gate)  # type: ignore[arg-type]
        return ours

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            os.close(fd)
        self.streams.drain()
        for client in tuple(self.streams.clients):
            self.streams.drop(client)


@pytest.fixture
def process() -> Iterator[Process]:
    made = Process(stdin_once=True)
    yield made
    made.close()


def test_output_is_framed_by_stream(process: Process) -> None:
    client = process.client()
    os.write(process.stdout, b"out")
    os.write(process.stderr, b"err")
    process.turn()
    assert client.recv(100) == stdcopy.frame(1, b"out") + stdcopy.frame(2, b"err")


def test_only_the_streams_that_were_asked_for(process: Process) -> None:
    client = process.client(stdout=False, framed=False)
    os.write(process.stdout, b"out")
    os.write(process.stderr, b"err")
    process.turn()
    assert client.recv(100) == b"err"


def test_input_and_its_end(process: Process) -> None:
    client = process.client(stdin=True, early="early ")
    client.sendall(b"late")
    client.shutdown(socket.SHUT_WR)
    process.turn()
    assert os.read(process.stdin, 100) == b"early late"
    process.turn()
    assert os.read(process.stdin, 100) == b""


def test_a_slow_client_holds_the_process_and_loses_nothing(process: Process) -> None:
    client = process.client(framed=False)
    os.set_blocking(process.stdout, False)
    sent = 0
    for _ in range(200):
        try:
            sent += os.write(process.stdout, b"x" * 65536)
        except BlockingIOError:
            break
        process.turn(1)
    assert QUEUE_LIMIT < sent < 8 * QUEUE_LIMIT
    received = 0
    while received < sent:
        received += len(client.recv(1 << 20))
        process.turn(1)
    assert received == sent


def test_a_client_that_leaves_is_forgotten(process: Process) -> None:
    client = process.client()
    client.close()
    os.write(process.stdout, b"x")
    process.turn()
    assert process.streams.clients == []


def test_a_gate_holds_output_back_and_begins_with_the_unfinished_line(tmp_path: Path) -> None:
    process = Process(JsonFile(LogConfig(path=str(tmp_path / "log"))))
    os.write(process.stdout, b"whole\nbeg")
    process.turn()
    opener, gate = socket.socketpair()
    client = process.client(gate.detach(), framed=False)
    os.write(process.stdout, b"un\n")
    process.turn()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)
    opener.close()
    process.turn()
    assert client.recv(100) == b"begun\n"
    process.close()


def test_a_gate_that_opens_after_the_end(process: Process) -> None:
    opener, gate = socket.socketpair()
    client = process.client(gate.detach(), framed=False)
    os.write(process.stdout, b"last")
    process.turn()
    process.streams.drain()
    process.streams.finish()
    assert len(process.streams.clients) == 1
    opener.close()
    process.turn()
    assert client.recv(100) == b"last"
    assert client.recv(100) == b""
