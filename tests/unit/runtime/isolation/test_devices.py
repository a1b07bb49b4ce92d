"""Device rules as v1 lines, and the v2 program run by a small interpreter against a plain reading."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter
from skiff.oci.runtime import DeviceRule
from skiff.runtime.isolation import devices

MKNOD, READ, WRITE = 1, 2, 4
BLOCK, CHARACTER = 1, 2


def run(program: bytes, access: int, kind: int, major: int, minor: int) -> bool:
    """What the kernel's eBPF machine would answer."""
    context = struct.pack("<III", access << 16 | kind, major, minor)
    code = list(struct.iter_unpack("<BBhi", program))
    registers = [0] * 11
    at = 0
    while True:
        op, pair, offset, value = code[at]
        at += 1
        to, source = pair & 15, pair >> 4
        match op:
            case 0x61:
                (registers[to],) = struct.unpack_from("<I", context, offset)
            case 0xBF:
                registers[to] = registers[source]
            case 0x54:
                registers[to] &= value & 0xFFFFFFFF
            case 0x74:
                registers[to] >>= value
            case 0xB7:
                registers[to] = value
            case 0x05:
                at += offset
            case 0x56:
                at += offset if registers[to] != value & 0xFFFFFFFF else 0
            case 0x46:
                at += offset if registers[to] & value else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(f"unknown instruction {op:#x}")


def naive(rules: list[DeviceRule], access: int, kind: int, major: int, minor: int) -> bool:
    """Each access by itself: the last rule that speaks of it decides."""
    letters = [letter for letter, bit in (("m", MKNOD), ("r", READ), ("w", WRITE)) if access & bit]
    for letter in letters:
        verdict = False
        for rule in rules:
            if (
                letter in rule.access
                and rule.type in ("a", "b" if kind == BLOCK else "c")
                and rule.major in (None, major)
                and rule.minor in (None, minor)
            ):
                verdict = rule.allow
        if not verdict:
            return False
    return True


numbers = st.one_of(st.none(), st.sampled_from([0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF]))
rules_ = st.lists(
    st.builds(
        DeviceRule,
        allow=st.booleans(),
        type=st.sampled_from(["a", "b", "c"]),
        major=numbers,
        minor=numbers,
        access=st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
    ),
    max_size=12,
)


@given(
    rules_,
    st.integers(1, 7),
    st.sampled_from([BLOCK, CHARACTER]),
    st.sampled_from([0, 1, 5, 9, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 5, 9, 0xFFFFFFFF]),
)
def test_the_program_says_what_the_rules_say(
    rules: list[DeviceRule], access: int, kind: int, major: int, minor: int
) -> None:
    program = devices.program(rules)
    assert run(program, access, kind, major, minor) == naive(rules, access, kind, major, minor)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([DeviceRule()], [("devices.deny", "a")]),
        ([DeviceRule(allow=True)], [("devices.allow", "a")]),
        (
            [DeviceRule(allow=True, type="c", major=1, minor=3, access="rw")],
            [("devices.allow", "c 1:3 rw")],
        ),
        ([DeviceRule(type="b", major=8, access="w")], [("devices.deny", "b 8:* w")]),
        ([DeviceRule(type="u", major=8, minor=-1)], [("devices.deny", "c 8:* rwm")]),
        (
            [DeviceRule(allow=True, type="a", access="m")],
            [("devices.allow", "b *:* m"), ("devices.allow", "c *:* m")],
        ),
    ],
)
def test_lines(rules: list[DeviceRule], expected: list[tuple[str, str]]) -> None:
    assert devices.lines(rules) == expected


def test_the_standard_devices_come_last_and_once() -> None:
    deny = DeviceRule()
    null = DeviceRule(allow=True, type="c", major=1, minor=3)
    rules = devices.with_standard([deny, null])
    assert rules[:2] == (deny, null)
    assert rules.count(null) == 1
    assert set(devices.STANDARD) <= set(rules)


@pytest.mark.parametrize("rules", [[], [DeviceRule(), DeviceRule(allow=True)]])
def test_nothing_is_added_where_nothing_is_denied(rules: list[DeviceRule]) -> None:
    assert devices.with_standard(rules) == tuple(rules)


@pytest.mark.parametrize("rule", [DeviceRule(type="x"), DeviceRule(access="rx"), DeviceRule(access="")])
def test_nonsense_is_refused(rule: DeviceRule) -> None:
    with pytest.raises(InvalidParameter):
        devices.lines([rule])
    with pytest.raises(InvalidParameter):
        devices.program([rule])
