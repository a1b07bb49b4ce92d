"""The compiled program, run by a small interpreter, against a plain reading of the profile."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiff.errors import InvalidParameter
from skiff.linux import syscalls
from skiff.oci.runtime import Seccomp, SyscallArg, SyscallRule
from skiff.runtime.isolation import seccomp
from skiff.runtime.isolation.seccomp import ALLOW, ENOSYS, ERRNO, KILL_THREAD

X86_64, X86, ARM64 = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 0x40000000


def run(program: bytes, audit: int, number: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel's classic BPF machine would return."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(args + (0,) * 6)[:6])
    code = list(struct.iter_unpack("<HBBI", program))
    at, accumulator = 0, 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        match op:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                at += k
            case 0x15:
                at += jt if accumulator == k else jf
            case 0x25:
                at += jt if accumulator > k else jf
            case 0x35:
                at += jt if accumulator >= k else jf
            case 0x06:
                return int(k)
            case _:
                raise AssertionError(f"unknown instruction {op:#x}")


def holds(arg: SyscallArg, value: int) -> bool:
    match arg.op.removeprefix("SCMP_CMP_"):
        case "EQ":
            return value == arg.value
        case "NE":
            return value != arg.value
        case "LT":
            return value < arg.value
        case "LE":
            return value <= arg.value
        case "GT":
            return value > arg.value
        case "GE":
            return value >= arg.value
        case _:
            return value & arg.value == arg.value_two


def naive(profile: Seccomp, arch: str, number: int, args: tuple[int, ...]) -> int:
    """The profile read rule by rule."""
    numbers = syscalls.numbers(arch)
    default = seccomp.action(profile.default_action, profile.default_errno_ret)
    unconditional = None
    newest = 0
    for rule in profile.syscalls:
        newest = max([newest, *(numbers[n] for n in rule.names if n in numbers)])
        if number not in [numbers.get(name) for name in rule.names]:
            continue
        value = seccomp.action(rule.action, rule.errno_ret)
        if not rule.args:
            unconditional = value if unconditional is None else unconditional
            continue
        results = [holds(arg, args[arg.index]) for arg in rule.args]
        twice = len({arg.index for arg in rule.args}) < len(rule.args)
        if any(results) if twice else all(results):
            return value
    if unconditional is not None:
        return unconditional
    if number > newest and newest and default >> 16 == ERRNO >> 16:
        return ERRNO | ENOSYS
    return default


values = st.one_of(
    st.sampled_from([0, 1, 40, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 64) - 1, 0x7E020000]),
    st.integers(0, (1 << 64) - 1),
)
args_ = st.builds(
    SyscallArg,
    index=st.integers(0, 5),
    value=values,
    value_two=values,
    op=st.sampled_from(["SCMP_CMP_" + op for op in ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")]),
)
actions = st.sampled_from(
    [
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_ERRNO", 38),
        ("SCMP_ACT_KILL", None),
        ("SCMP_ACT_KILL_PROCESS", None),
        ("SCMP_ACT_TRAP", None),
        ("SCMP_ACT_LOG", None),
        ("SCMP_ACT_TRACE", 7),
    ]
)
NAMES = [*sorted(n for n in syscalls.numbers("x86_64") if n in syscalls.numbers("aarch64"))[:60], "nonsense"]
rules = st.builds(
    lambda names, act, args: SyscallRule(tuple(names), act[0], act[1], tuple(args)),
    st.lists(st.sampled_from(NAMES), max_size=8),
    actions,
    st.lists(args_, max_size=4),
)
profiles = st.builds(
    lambda act, rs: Seccomp(default_action=act[0], default_errno_ret=act[1], syscalls=tuple(rs)),
    actions,
    st.lists(rules, max_size=8),
)


@settings(max_examples=150, deadline=None)
@given(profiles, st.lists(st.tuples(st.sampled_from(NAMES[:-1]), st.tuples(*[values] * 6)), max_size=20))
def test_the_program_says_what_the_profile_says(
    profile: Seccomp, calls: list[tuple[str, tuple[int, ...]]]
) -> None:
    for arch, audit in (("x86_64", X86_64), ("aarch64", ARM64)):
        program = seccomp.compile(profile, arch)
        for name, args in calls:
            number = syscalls.number(name, arch)
            assert run(program, audit, number, args) == naive(profile, arch, number, args)


@settings(max_examples=60, deadline=None)
@given(st.lists(args_, min_size=1, max_size=3), st.tuples(*[values] * 6))
def test_every_comparison_at_its_borders(args: list[SyscallArg], given_args: tuple[int, ...]) -> None:
    profile = Seccomp(
        "SCMP_ACT_KILL", syscalls=(SyscallRule(("clone",), "SCMP_ACT_ALLOW", args=tuple(args)),)
    )
    program = seccomp.compile(profile, "x86_64")
    for arg in args:
        for shift in (-1, 0, 1):
            near = tuple(
                (arg.value + shift) % (1 << 64) if index == arg.index else value
                for index, value in enumerate(given_args)
            )
            assert run(program, X86_64, 56, near) == naive(profile, "x86_64", 56, near)


ALLOW_READ = Seccomp(
    "SCMP_ACT_ERRNO",
    architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    syscalls=(SyscallRule(("read", "openat2"), "SCMP_ACT_ALLOW"),),
)


@pytest.mark.parametrize(
    ("audit", "number", "expected"),
    [
        (X86_64, 0, ALLOW),
        (X86_64, 1, ERRNO | 1),
        (X86_64, 437, ALLOW),
        (X86_64, 438, ERRNO | ENOSYS),
        (X86, 3, ALLOW),
        (X86, 0, ERRNO | 1),
        (X86_64, X32_BIT, ALLOW),
        (X86_64, X32_BIT + 1, ERRNO | 1),
        (X86_64, X32_BIT + 438, ERRNO | ENOSYS),
        (X86_64, 0xFFFFFFFF, ERRNO | ENOSYS),
        (ARM64, 63, KILL_THREAD),
    ],
)
def test_several_architectures(audit: int, number: int, expected: int) -> None:
    assert run(seccomp.compile(ALLOW_READ, "x86_64"), audit, number) == expected


def test_x32_is_killed_when_not_listed() -> None:
    profile = Seccomp("SCMP_ACT_ALLOW")
    program = seccomp.compile(profile, "x86_64")
    assert run(program, X86_64, 5) == ALLOW
    assert run(program, X86_64, X32_BIT) == KILL_THREAD
    assert run(program, X86_64, 0xFFFFFFFF) == ALLOW
    assert run(program, X86, 5) == KILL_THREAD


@pytest.mark.parametrize(
    "profile",
    [
        Seccomp("SCMP_ACT_NOTIFY"),
        Seccomp("SCMP_ACT_MAYBE"),
        Seccomp("SCMP_ACT_ALLOW", default_errno_ret=3),
        Seccomp("SCMP_ACT_ERRNO", default_errno_ret=70000),
        Seccomp("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_VAX",)),
        Seccomp("SCMP_ACT_ALLOW", syscalls=(SyscallRule(("read",), "SCMP_ACT_NOTIFY"),)),
        Seccomp(
            "SCMP_ACT_ALLOW",
            syscalls=(SyscallRule(("read",), "SCMP_ACT_KILL", args=(SyscallArg(6, 1),)),),
        ),
        Seccomp(
            "SCMP_ACT_ALLOW",
            syscalls=(SyscallRule(("read",), "SCMP_ACT_KILL", args=(SyscallArg(0, 1, op="SCMP_CMP_XX"),)),),
        ),
        Seccomp(
            "SCMP_ACT_ALLOW",
            syscalls=tuple(
                SyscallRule(("read",), "SCMP_ACT_KILL", args=(SyscallArg(0, n),)) for n in range(1000)
            ),
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused(profile: Seccomp) -> None:
    with pytest.raises(InvalidParameter):
        seccomp.compile(profile, "x86_64")


def test_foreign_architectures_are_no_error() -> None:
    profile = Seccomp("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_S390X",))
    assert run(seccomp.compile(profile, "aarch64"), ARM64, 1) == ALLOW
