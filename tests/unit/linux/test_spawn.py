"""Spawned children perform what they are told, and nothing of it stays."""

import errno
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiff.linux import spawn, syscalls
from skiff.linux.calls import ANY_ERROR, Pointers, Program, Result, Rider, errors
from skiff.linux.spawn import MEMORY, Spawned, Spawner

pytestmark = pytest.mark.skipif(
    syscalls.architecture() not in ("x86_64", "aarch64"), reason="no code for this architecture"
)


@pytest.fixture(scope="module")
def spawner() -> Spawner:
    found = spawn.available()
    assert found is not None
    return found


@pytest.fixture
def program(spawner: Spawner) -> Program:
    return Program(syscalls.numbers(syscalls.architecture()), spawner.base)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield read, write
    os.close(read)
    os.close(write)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def spawned_by(spawner: Spawner, program: Program, *, wait: bool, **riders: int) -> Spawned:
    image = program.image()
    return spawner.spawn(*image, riders=riders, wait=wait)


def performed(spawner: Spawner, program: Program, *, wait: bool = True, **riders: int) -> int:
    """Its exit code, negative for a signal."""
    spawned = spawned_by(spawner, program, wait=wait, **riders)
    return ended(spawned)


def ended(spawned: Spawned) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1])
    os.close(spawned.pidfd)
    return code


def test_calls_are_made_in_order(spawner: Spawner, program: Program, pipe: tuple[int, int]) -> None:
    program.call("write", pipe[1], b"one ", 4)
    program.call("write", Rider("out"), b"two", 3)
    program.call("exit_group", 7)
    assert performed(spawner, program, out=pipe[1]) == 7
    assert os.read(pipe[0], 100) == b"one two"


def test_what_a_call_answers_is_an_argument_of_others(
    spawner: Spawner, program: Program, pipe: tuple[int, int]
) -> None:
    copy = program.call("dup", pipe[1])
    program.call("write", copy, b"x", 1)
    program.call("close", copy)
    program.call("exit_group", 0)
    assert performed(spawner, program) == 0
    assert os.read(pipe[0], 100) == b"x"


def test_a_failure_ends_the_program(spawner: Spawner, program: Program, pipe: tuple[int, int]) -> None:
    failed = program.call("close", -1)
    after = program.call("write", pipe[1], b"x", 1)
    assert performed(spawner, program) == 1
    assert spawner.result(failed) == -errno.EBADF
    assert spawner.result(after) > 0  # pending
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_a_failure_that_may_be_passes_over_calls(
    spawner: Spawner, program: Program, pipe: tuple[int, int]
) -> None:
    failed = program.call("close", -1, may_fail=errors(errno.EBADF))
    program.call("write", pipe[1], b"not this", 8)
    program.resume(failed)
    jump = program.skip()
    program.call("write", pipe[1], b"nor this", 8)
    program.resume(jump)
    program.call("write", pipe[1], b"this", 4)
    program.call("exit_group", 0)
    assert performed(spawner, program) == 0
    assert os.read(pipe[0], 100) == b"this"


def test_another_failure_than_those_that_may_be(spawner: Spawner, program: Program) -> None:
    program.call("close", -1, may_fail=errors(errno.ENOENT))
    program.call("exit_group", 0)
    assert performed(spawner, program) == 1


def test_a_program_that_ends_without_execve(spawner: Spawner, program: Program) -> None:
    program.call("getpid")
    assert performed(spawner, program) == 1


def test_it_becomes_another_program(spawner: Spawner, program: Program, pipe: tuple[int, int]) -> None:
    program.call("dup3", pipe[1], 1, 0)
    found = [program.call("execve", b"/bin/sh", Pointers((b"sh", b"-c", b"echo $A")), Pointers((b"A=b",)))]
    assert performed(spawner, program) == 0
    assert spawner.executes(found)
    assert os.read(pipe[0], 100) == b"b\n"


def test_it_does_not(spawner: Spawner, program: Program) -> None:
    program.call("getpid")
    found = [program.call("execve", b"/no/such/file", Pointers((b"x",)), Pointers(()), may_fail=ANY_ERROR)]
    program.call("close", -1)
    never = program.call("execve", b"/bin/true", Pointers((b"x",)), Pointers(()))
    assert performed(spawner, program) == 1
    assert not spawner.executes([*found, never])


def receives(program: Program, stream: socket.socket, buffer: bytes | None, size: int) -> Result:
    return program.call("recvfrom", stream.fileno(), buffer, size, 0, None, None)


def test_a_call_is_replaced_while_it_waits(
    spawner: Spawner, program: Program, pair: tuple[socket.socket, socket.socket]
) -> None:
    receives(program, pair[0], bytes(8), 1)
    gate = program.call("exit_group", 3)
    program.call("exit_group", 4)
    for opened, code in ((False, 3), (True, 4)):
        spawned = spawned_by(spawner, program, wait=False)
        if opened:
            spawner.replace(gate, syscalls.number("getpid"))
        pair[1].send(b"x")
        assert ended(spawned) == code


def test_memory_that_was_given_back_is_no_program(
    spawner: Spawner, program: Program, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Whoever still walks it ends; else he would go on with what lies behind it."""
    receives(program, pair[0], bytes(8), 1)
    program.call("exit_group", 3)
    spawned = spawned_by(spawner, program, wait=False)
    waits = f"{syscalls.number('recvfrom')} "
    while not Path(f"/proc/{spawned.pid}/syscall").read_text().startswith(waits):
        time.sleep(0.001)
    spawner.forget()
    pair[1].send(b"x")
    assert ended(spawned) == 1


def test_a_call_of_number_0_is_none(program: Program) -> None:
    with pytest.raises(ValueError, match="no program can call read"):
        program.call("read", 0, bytes(8), 1)


def test_it_is_killed(spawner: Spawner, program: Program, pair: tuple[socket.socket, socket.socket]) -> None:
    receives(program, pair[0], bytes(8), 1)
    spawned = spawned_by(spawner, program, wait=False)
    os.kill(spawned.pid, signal.SIGKILL)
    assert ended(spawned) == -signal.SIGKILL


def test_our_handlers_are_not_the_childs(spawner: Spawner, program: Program) -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: called.append(number))
    try:
        pid = program.call("getpid")
        program.call("kill", pid, signal.SIGUSR1)
        assert performed(spawner, program) == -signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not called


def test_the_memory_is_used_again_and_given_back(spawner: Spawner) -> None:
    for length in (5000, 3):
        program = Program(syscalls.numbers(syscalls.architecture()), spawner.base)
        program.call("exit_group", length % 100)
        program.call("write", 1, b"x" * length, length)
        assert performed(spawner, program) == length % 100
    spawner.forget()
    assert not any(spawner.memory[:4096])


def test_a_program_that_is_too_long(spawner: Spawner, program: Program) -> None:
    program.call("write", 1, bytes(MEMORY), 1)
    with pytest.raises(OSError, match="Argument list too long"):
        spawned_by(spawner, program, wait=True)


def test_what_the_kernel_refuses(spawner: Spawner, program: Program) -> None:
    program.call("exit_group", 0)
    image = program.image()
    with pytest.raises(OSError, match="clone3"):
        spawner.spawn(*image, 0x200 | 0x20000, wait=True)  # CLONE_FS with CLONE_NEWNS


def test_an_error_beyond_those_that_have_a_bit(spawner: Spawner, program: Program) -> None:
    nobody = b"\1\0\0nobody listens here"
    socket = program.call("socket", 1, 1, 0)
    refused = program.call("connect", socket, nobody, len(nobody), may_fail=ANY_ERROR)
    program.call("exit_group", 1)
    program.resume(refused)
    program.call("exit_group", 6)
    assert performed(spawner, program) == 6
    assert spawner.result(refused) == -errno.ECONNREFUSED > -4095


def test_a_loop(spawner: Spawner, program: Program, pipe: tuple[int, int]) -> None:
    again = program.call("write", pipe[1], b"x", 1, may_fail=errors(errno.EAGAIN))
    repeat = program.skip()
    program.go_back(repeat, again)
    program.resume(again)  # the pipe is full
    program.call("exit_group", 5)
    os.set_blocking(pipe[1], False)
    assert performed(spawner, program) == 5
    assert len(os.read(pipe[0], 1 << 20)) == 65536


def test_an_argument_that_the_kernel_writes(
    spawner: Spawner, program: Program, pair: tuple[socket.socket, socket.socket]
) -> None:
    pair[1].send((23).to_bytes(8, "little"))
    reads = receives(program, pair[0], None, 8)
    leaves = program.call("exit_group", 1)
    program.point(reads, 1, leaves, 0)
    assert performed(spawner, program) == 23
