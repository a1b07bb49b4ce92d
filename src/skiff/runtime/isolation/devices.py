"""Device rules → lines for the v1 devices controller, or a v2 BPF program. Pure.

The last rule that speaks of an access decides about it; what none speaks of is denied.
OCI runtime-spec, config-linux.md § Allowed Device list.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from skiff.errors import InvalidParameter
from skiff.oci.runtime import DeviceRule

_BITS: Final = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
_TYPES: Final = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_EVERY_ACCESS: Final = 7

# What every container may use, whatever its rules say: making nodes (not opening them), the standard ones.
# OCI runtime-spec, config-linux.md § Default Devices; 5:2 and 136 are ptmx and the pts.
STANDARD: Final = (
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type="c", major=major, minor=minor)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
    ),
)


def with_standard(rules: Sequence[DeviceRule]) -> tuple[DeviceRule, ...]:
    """The rules plus STANDARD, unless all is allowed in the end anyway. No rule at all restricts nothing."""
    if not rules or (rules[-1].allow and _is_everything(rules[-1])):
        return tuple(rules)
    return (*rules, *(rule for rule in STANDARD if rule not in rules))


def lines(rules: Iterable[DeviceRule]) -> list[tuple[str, str]]:
    """(file, line) in the order to be written. cgroup-v1/devices.rst.

    InvalidParameter for a rule that means nothing.
    """
    written: list[tuple[str, str]] = []
    for rule in rules:
        _access(rule)
        name = "devices.allow" if rule.allow else "devices.deny"
        if _is_everything(rule):
            written.append((name, "a"))
            continue
        # `a` is everything to the kernel whatever follows it, so both kinds are named instead.
        for kind in ("b", "c") if rule.type == "a" else (rule.type,):
            word = "c" if kind == "u" else kind
            written.append((name, f"{word} {_number(rule.major)}:{_number(rule.minor)} {rule.access}"))
    return written


def _number(value: int | None) -> str:
    return "*" if value is None or value < 0 else str(value)


def _access(rule: DeviceRule) -> int:
    if rule.type not in ("a", "b", "c", "u"):
        raise InvalidParameter(f"invalid device type {rule.type!r}: expected a, b, c or u")
    if not rule.access or set(rule.access) - _BITS.keys():
        raise InvalidParameter(f"invalid device access {rule.access!r}: expected some of r, w, m")
    return sum(_BITS[letter] for letter in set(rule.access))


def _is_everything(rule: DeviceRule) -> bool:
    return (
        rule.type == "a"
        and _number(rule.major) == "*"
        and _number(rule.minor) == "*"
        and _access(rule) == _EVERY_ACCESS
    )


# -- the BPF program: eBPF instructions, linux/bpf.h ---------------------------------------------------------
# r2 type, r3 accesses not decided yet, r4 major, r5 minor; the answer in r0: 1 allowed, 0 denied.

_LOAD_WORD, _COPY, _AND, _SHIFT_RIGHT, _SET, _EXIT = 0x61, 0xBF, 0x54, 0x74, 0xB7, 0x95
_JUMP, _IF_NOT_EQUAL, _IF_ANY_BIT = 0x05, 0x56, 0x46  # the conditional ones compare 32 bits


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack(
        "<BBhi", code, to | source << 4, offset, value - (1 << 32) if value >= 1 << 31 else value
    )


def _answer(allow: bool) -> bytes:
    return _instruction(_SET, 0, value=int(allow)) + _instruction(_EXIT)


def program(rules: Sequence[DeviceRule]) -> bytes:
    """A program for BPF_CGROUP_DEVICE: the rules from the last to the first, each taking its accesses off.

    InvalidParameter for a rule that means nothing.
    """
    code = [
        _instruction(_LOAD_WORD, 2, 1, 0),  # access_type: access << 16 | type
        _instruction(_COPY, 3, 2),
        _instruction(_AND, 2, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, value=16),
        _instruction(_LOAD_WORD, 4, 1, 4),
        _instruction(_LOAD_WORD, 5, 1, 8),
    ]
    for rule in reversed(rules):
        if _is_everything(rule):
            code.append(_answer(rule.allow))
            break
        code.append(_block(rule))
    else:
        code.append(_answer(False))
    return b"".join(code)


def _block(rule: DeviceRule) -> bytes:
    access = _access(rule)
    if rule.allow:
        verdict = _instruction(_AND, 3, value=_EVERY_ACCESS & ~access)
        verdict += _instruction(_IF_NOT_EQUAL, 3, offset=2, value=0) + _answer(True)
    else:
        verdict = _instruction(_IF_ANY_BIT, 3, offset=1, value=access) + _instruction(_JUMP, offset=2)
        verdict += _answer(False)
    tests = []
    if rule.type != "a":
        tests.append((2, _TYPES["c" if rule.type == "u" else rule.type]))
    for register, number in ((4, rule.major), (5, rule.minor)):
        if number is not None and number >= 0:
            tests.append((register, number))
    block = verdict
    for register, number in reversed(tests):
        block = _instruction(_IF_NOT_EQUAL, register, offset=len(block) // 8, value=number) + block
    return block
