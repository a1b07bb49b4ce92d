"""The default profile, compiled and asked; and profiles in Docker's file format."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.execution import defaults
from skiff.errors import InvalidParameter
from skiff.linux import capabilities, syscalls
from skiff.oci.runtime import Seccomp

PLAIN = frozenset(defaults.CAPABILITIES)
KERNEL = (6, 1)


def actions(profile: Seccomp, name: str) -> list[tuple[str, int | None, int]]:
    return [(r.action, r.errno_ret, len(r.args)) for r in profile.syscalls if name in r.names]


@pytest.mark.parametrize(
    ("name", "caps", "expected"),
    [
        ("read", PLAIN, [("SCMP_ACT_ALLOW", None, 0)]),
        ("mount", PLAIN, []),
        ("mount", {"CAP_SYS_ADMIN"}, [("SCMP_ACT_ALLOW", None, 0)]),
        ("clone", PLAIN, [("SCMP_ACT_ALLOW", None, 1)]),
        ("clone", {"CAP_SYS_ADMIN"}, [("SCMP_ACT_ALLOW", None, 0)]),
        ("clone3", PLAIN, [("SCMP_ACT_ERRNO", 38, 0)]),
        ("clone3", {"CAP_SYS_ADMIN"}, [("SCMP_ACT_ALLOW", None, 0)]),
        ("chroot", PLAIN, [("SCMP_ACT_ALLOW", None, 0)]),
        ("chroot", set(), []),
        ("io_uring_setup", {"CAP_SYS_ADMIN"}, []),
        ("keyctl", PLAIN, []),
        ("ptrace", PLAIN, [("SCMP_ACT_ALLOW", None, 0)]),
        ("socket", PLAIN, [("SCMP_ACT_ALLOW", None, 1)]),
        ("personality", PLAIN, [("SCMP_ACT_ALLOW", None, 1)] * 5),
    ],
)
def test_default_profile(name: str, caps: set[str], expected: list[tuple[str, int | None, int]]) -> None:
    assert actions(defaults.default_seccomp(frozenset(caps), "x86_64", KERNEL), name) == expected


def test_old_kernels_get_no_ptrace() -> None:
    assert actions(defaults.default_seccomp(PLAIN, "x86_64", (4, 4)), "ptrace") == []


def test_architectures() -> None:
    assert actions(defaults.default_seccomp(PLAIN, "aarch64", KERNEL), "arch_prctl") == []
    assert defaults.default_seccomp(PLAIN, "aarch64", KERNEL).architectures[0] == "SCMP_ARCH_AARCH64"


def test_every_name_is_a_system_call_somewhere() -> None:
    known = set().union(*(syscalls.numbers(arch) for arch in syscalls.ARCHITECTURES))
    everything = frozenset(capabilities.NAMES)
    for arch in ("x86_64", "aarch64"):
        for rule in defaults.default_seccomp(everything, arch, KERNEL).syscalls:
            assert set(rule.names) - known <= {"riscv_hwprobe"}


def test_capabilities_are_capabilities() -> None:
    assert len(defaults.CAPABILITIES) == 14
    assert set(defaults.CAPABILITIES) <= set(capabilities.NAMES)


def profile(**parts: object) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", **parts})


RULE = {"names": ["mount"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "7.0"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
    ],
)
def test_conditions_of_a_custom_profile(condition: dict[str, object], kept: bool) -> None:
    text = profile(syscalls=[{**RULE, **condition}])
    found = defaults.custom_seccomp(text, PLAIN, "x86_64", KERNEL)
    assert bool(found.syscalls) is kept


def test_custom_profile_in_full() -> None:
    found = defaults.custom_seccomp(
        profile(
            defaultErrnoRet=5,
            archMap=[
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            ],
            flags=["SECCOMP_FILTER_FLAG_LOG"],
            syscalls=[
                {
                    "name": "clone",
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 1, "value": 5, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}],
                    "comment": "",
                    "includes": {},
                    "excludes": {},
                },
                {"names": ["read"], "action": "SCMP_ACT_KILL", "args": None},
            ],
        ),
        PLAIN,
        "x86_64",
        KERNEL,
    )
    assert found.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    assert found.default_errno_ret == 5
    assert found.syscalls[0].names == ("clone",)
    assert found.syscalls[0].args[0].value_two == 7
    assert found.flags == ("SECCOMP_FILTER_FLAG_LOG",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"defaultAction": 3}',
        profile(syscalls=[{"names": ["a"], "name": "b", "action": "SCMP_ACT_ALLOW"}]),
        profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86"}]),
        profile(syscalls=[{**RULE, "includes": {"minKernel": "new"}}]),
    ],
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        defaults.custom_seccomp(text, PLAIN, "x86_64", KERNEL)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_custom_profile_never_crashes(text: str | bytes) -> None:
    try:
        defaults.custom_seccomp(text, PLAIN, "x86_64", KERNEL)
    except InvalidParameter:
        pass
