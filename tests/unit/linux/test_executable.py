"""Executables of system calls alone."""

import os
import subprocess
from pathlib import Path

import pytest

from skiff.linux import executable, machine, syscalls
from skiff.linux.calls import ANY_ERROR, Program

pytestmark = pytest.mark.skipif(
    syscalls.architecture() not in machine.WALK, reason="no code for this architecture"
)


@pytest.fixture
def program() -> Program:
    return Program(syscalls.numbers(syscalls.architecture()), executable.DATA)


def written(program: Program, path: Path) -> Path:
    """The program, and then the execve of what stands behind its name."""
    execve = program.call("execve", None, None, None, may_fail=ANY_ERROR)
    program.call("exit_group", 9)
    path.write_bytes(executable.executable(syscalls.architecture(), program.image(), execve))
    path.chmod(0o700)
    return path


def test_it_performs_its_calls_and_becomes_what_it_was_given(program: Program, tmp_path: Path) -> None:
    program.call("write", 1, b"first\n", 6)
    path = written(program, tmp_path / "program")
    done = subprocess.run(
        [path, "/bin/sh", "-c", 'echo "$0 $1 $A"; exit 4', "zero", "one"], capture_output=True, env={"A": "b"}
    )
    assert (done.returncode, done.stdout) == (4, b"first\nzero one b\n")


def test_without_a_program_to_become(program: Program, tmp_path: Path) -> None:
    path = written(program, tmp_path / "program")
    assert subprocess.run([path]).returncode == 9
    assert subprocess.run([path, "/no/such/program"]).returncode == 9


def test_no_page_is_written_and_executed(program: Program, tmp_path: Path) -> None:
    program.call("pause")
    process = subprocess.Popen([written(program, tmp_path / "program")])
    try:
        while "program" not in (maps := Path(f"/proc/{process.pid}/maps").read_text()):
            os.sched_yield()
    finally:
        process.kill()
        process.wait()
    rights = [line.split()[1] for line in maps.splitlines() if "[v" not in line]
    assert not [right for right in rights if "w" in right and "x" in right]
    assert any("x" in right for right in rights)


def test_an_unknown_machine(program: Program) -> None:
    execve = program.call("execve", None, None, None)
    with pytest.raises(KeyError):
        executable.executable("s390x", program.image(), execve)
