"""Which calls make a spawned child the container's program."""

import struct

import pytest

from skiff.linux import capabilities
from skiff.linux.calls import RECORD, Program, Rider
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Capabilities, Process, Rlimit, User
from skiff.runtime.isolation import entering
from skiff.runtime.isolation.entering import Unplanned

NAMES = (
    *("rt_sigaction", "rt_sigprocmask", "setsid", "write", "dup3", "close_range", "openat2", "fchdir"),
    *("keyctl", "openat", "prlimit64", "umask", "seccomp", "prctl", "setgroups", "setresgid", "setresuid"),
    *("capset", "execve", "faccessat"),
)
NUMBERS = {name: number for number, name in enumerate(NAMES, 1)}
BASE = 0x10000
FILTER = Filter(bytes(16), 2)


def names(process: Process, filter: Filter | None = None) -> list[str]:
    """Of the calls, in order; which are those of execve is checked."""
    program = Program(NUMBERS, BASE)
    execves = entering.enter(program, process, filter, have=capabilities.ALL)
    data, start, _ = program.image()
    called = {number: name for name, number in NUMBERS.items()}
    made = [called[RECORD.unpack_from(data, start + index * RECORD.size)[0]] for index in range(len(program))]
    assert [index for index, name in enumerate(made) if name == "execve"] == [call.at for call in execves]
    return made


def test_the_order() -> None:
    made = names(Process(args=("/bin/true",)), FILTER)
    order = [
        "close_range",
        "openat2",
        "fchdir",
        "keyctl",
        "umask",
        "seccomp",
        "setgroups",
        "capset",
        "execve",
    ]
    assert [name for name in made if name in order] == order


def test_without_new_privileges_the_filter_comes_last() -> None:
    made = names(Process(args=("/bin/true",), no_new_privileges=True), FILTER)
    assert made[-3:] == ["prctl", "seccomp", "execve"]
    assert made.count("seccomp") == 1


def test_only_what_is_asked_for() -> None:
    made = names(Process(args=("/bin/true",)))
    assert {"seccomp", "openat", "prlimit64"}.isdisjoint(made)
    made = names(Process(args=("/bin/true",), oom_score_adj=1, rlimits=(Rlimit("RLIMIT_CORE", 1, 1),)))
    assert {"openat", "prlimit64"} <= set(made)


def test_a_name_is_searched_for() -> None:
    assert names(Process(args=("true",), env=("PATH=/a:/b",)))[-4:] == ["faccessat", "execve"] * 2
    assert "execve" not in names(Process(args=("true",)))


def test_the_bounding_set_keeps_what_is_wanted() -> None:
    every = len([name for name in names(Process(args=("/x",))) if name == "prctl"])
    wanted = Capabilities(bounding=("CAP_CHOWN", "CAP_KILL"))
    kept = len([name for name in names(Process(args=("/x",), capabilities=wanted)) if name == "prctl"])
    assert every - kept == 2


def test_groups_and_limits_are_laid_out_for_the_kernel() -> None:
    program = Program(NUMBERS, BASE)
    process = Process(
        args=("/x",), user=User(additional_gids=(5, 70000)), rlimits=(Rlimit("RLIMIT_CORE", soft=9, hard=-1),)
    )
    entering.enter(program, process, None, have=0)
    data = program.image().data
    assert struct.pack("<2I", 5, 70000) in data
    assert struct.pack("<2Q", 9, (1 << 64) - 1) in data


def test_just_born() -> None:
    program = Program(NUMBERS, BASE)
    entering.settle(program, (Rider("cpu"), Rider("memory")))
    entering.take_streams(program, (7, 8, 9))
    image = program.image()
    assert set(image.places) == {"cpu", "memory"}
    last = len(program) - 1
    assert RECORD.unpack_from(image.data, image.start + last * RECORD.size)[:3] == (NUMBERS["dup3"], 9, 2)


@pytest.mark.parametrize(
    "process",
    [
        Process(),
        Process(args=("",)),
        Process(args=("x",), cwd=""),
        Process(args=("x\0",)),
        Process(args=("x",), scheduler={"policy": "SCHED_IDLE"}),
        Process(args=("x",), io_priority={"class": "IOPRIO_CLASS_IDLE"}),
        Process(args=("x",), apparmor_profile="unconfined"),
        Process(args=("x",), selinux_label="label"),
        Process(args=("x",), rlimits=(Rlimit("RLIMIT_NONSENSE", 1, 1),)),
    ],
)
def test_what_an_interpreter_has_to_do(process: Process) -> None:
    with pytest.raises(Unplanned):
        names(process)
