"""A seccomp profile of a runtime spec → a filter program (classic BPF). Pure.

Per architecture the numbers are merged into ranges of equal fate, and a balanced search tree over the ranges
ends in a return or in the comparison of arguments: some ten instructions for any system call.

    load arch ─► x86_64 ─► load nr ─► tree ─► return | compare arguments ─► return
              └► x86    ─► …
              └► none of the profile's: kill

OCI runtime-spec, config-linux.md § Seccomp; linux/filter.h, linux/seccomp.h.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from skiff.errors import InvalidParameter
from skiff.linux import syscalls
from skiff.oci.runtime import Seccomp, SyscallArg, SyscallRule

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
TRACE, LOG, ALLOW = 0x7FF00000, 0x7FFC0000, 0x7FFF0000
EPERM, ENOSYS = 1, 38
MOST_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS

_ACTIONS: Final = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_OPERATORS: Final = frozenset("SCMP_CMP_" + op for op in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_ARCHITECTURES: Final = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
# Valid words whose numbers are not known here: programs of those machines do not run on ours.
_FOREIGN: Final = frozenset(
    "SCMP_ARCH_" + name
    for name in (
        *("MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE"),
        *("S390", "S390X", "PARISC", "PARISC64", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB"),
    )
)
_LAST_NUMBER: Final = 0xFFFFFFFF  # what a tracer leaves behind to skip a call; no call of that number exists

Case = tuple[tuple[SyscallArg, ...], int]  # all of these comparisons hold → this return value
Fate = tuple[Case, ...]  # the first case that holds decides; the last one has no comparisons
Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k


class Table(NamedTuple):
    """What a profile says for one audit architecture: (first number, fate) in rising order, from 0 on."""

    audit: int
    ranges: tuple[tuple[int, Fate], ...]


def compile(profile: Seccomp, native: str | None = None) -> bytes:
    """The program, 8 bytes an instruction, for this machine or the architecture named.

    InvalidParameter: an unknown action, operator or architecture; SCMP_ACT_NOTIFY; too large.
    """
    code = assemble(tables(profile, native or syscalls.architecture()))
    if len(code) > MOST_INSTRUCTIONS:
        raise InvalidParameter(
            f"seccomp profile too large: {len(code)} instructions, {MOST_INSTRUCTIONS} at most"
        )
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


# -- what the profile says -----------------------------------------------------------------------------------


def tables(profile: Seccomp, native: str) -> list[Table]:
    """One table per audit architecture, the native one first.

    Of the rules for one system call those with arguments are asked first, in their order, then the first
    without. A rule that names one argument twice means either comparison, as runc reads it. When the default
    is an error, system calls newer than all that the profile names fail with ENOSYS: programs then try an
    older one.
    """
    default = action(profile.default_action, profile.default_errno_ret)
    arches = [native, *(_architecture(name) for name in profile.architectures)]
    wanted = [arch for arch in dict.fromkeys(arches) if arch]
    found: dict[int, dict[int, list[Case]]] = {}
    newest: dict[str, int] = {}
    rules = [(rule.names, _cases(rule)) for rule in profile.syscalls]
    for arch in wanted:
        if arch not in syscalls.AUDIT:
            raise InvalidParameter(f"seccomp is not supported on {arch}")
        numbers = syscalls.numbers(arch)
        table = found.setdefault(syscalls.AUDIT[arch], {})
        for names, cases in rules:
            for name in names:
                number = numbers.get(name)
                if number is not None:
                    table.setdefault(number, []).extend(cases)
                    newest[arch] = max(number, newest.get(arch, 0))
    beyond = ERRNO | ENOSYS if default >> 16 == ERRNO >> 16 and newest else default
    built = []
    for audit, table in found.items():
        marks: dict[int, Fate] = {0: (((), KILL_THREAD),)}
        if audit == syscalls.AUDIT["x32"]:
            marks[syscalls.X32_BIT] = (((), KILL_THREAD),)
        for arch in wanted:
            if syscalls.AUDIT[arch] == audit:
                first = syscalls.X32_BIT if arch == "x32" else 0
                marks[first] = (((), default),)
                marks[newest.get(arch, first) + 1] = (((), beyond),)
        marks[_LAST_NUMBER] = (((), beyond),)
        built.append(Table(audit, _ranges(table, marks)))
    return built


def _architecture(name: str) -> str:
    if name in _ARCHITECTURES:
        return _ARCHITECTURES[name]
    if name in _FOREIGN:
        return ""
    raise InvalidParameter(f"unknown seccomp architecture {name}")


def action(name: str, errno: int | None) -> int:
    """The return value of the filter for an action and its errno (EPERM when none is given)."""
    if name == "SCMP_ACT_NOTIFY":
        raise InvalidParameter("seccomp action SCMP_ACT_NOTIFY is not supported")
    if name not in _ACTIONS:
        raise InvalidParameter(f"unknown seccomp action {name}")
    value = _ACTIONS[name]
    if value in (ERRNO, TRACE):
        data = EPERM if errno is None else errno
        if not 0 <= data <= 0xFFFF:
            raise InvalidParameter(f"invalid seccomp errno {data}: expected 0–65535")
        return value | data
    if errno:
        raise InvalidParameter(f"seccomp action {name} takes no errnoRet")
    return value


def _cases(rule: SyscallRule) -> list[Case]:
    value = action(rule.action, rule.errno_ret)
    for arg in rule.args:
        if arg.op not in _OPERATORS:
            raise InvalidParameter(f"unknown seccomp operator {arg.op}")
        if not 0 <= arg.index <= 5:
            raise InvalidParameter(f"invalid seccomp argument index {arg.index}: expected 0–5")
        if not (0 <= arg.value < 1 << 64 and 0 <= arg.value_two < 1 << 64):
            raise InvalidParameter("invalid seccomp argument value: expected 64 bits, unsigned")
    if len({arg.index for arg in rule.args}) < len(rule.args):
        return [((arg,), value) for arg in rule.args]
    return [(rule.args, value)]


def _ranges(table: dict[int, list[Case]], marks: dict[int, Fate]) -> tuple[tuple[int, Fate], ...]:
    """Merge neighbours of equal fate. marks: from this number on, that is what is not in the table."""
    borders = sorted({*marks, *table, *(number + 1 for number in table if number < _LAST_NUMBER)})
    merged: list[tuple[int, Fate]] = []
    background = marks[0]
    for start in borders:
        background = marks.get(start, background)
        fate = _fate(table[start], background) if start in table else background
        if not merged or merged[-1][1] != fate:
            merged.append((start, fate))
    return tuple(merged)


def _fate(cases: list[Case], background: Fate) -> Fate:
    conditional = dict.fromkeys(case for case in cases if case[0])
    last = next((case for case in cases if not case[0]), background[-1])
    kept = [*conditional]
    while kept and kept[-1][1] == last[1]:
        kept.pop()  # asks, only to answer what comes anyway
    return (*kept, last)


# -- instructions --------------------------------------------------------------------------------------------

_LOAD, _JEQ, _JGT, _JGE, _JUMP, _RETURN, _AND = 0x20, 0x15, 0x25, 0x35, 0x05, 0x06, 0x54
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_FAR: Final = 255  # the longest conditional jump


def assemble(built: Iterable[Table]) -> list[Instruction]:
    """The whole program of these tables."""
    code: list[Instruction] = [(_LOAD, 0, 0, _ARCH)]
    for audit, ranges in built:
        body = [(_LOAD, 0, 0, _NR), *_tree(ranges)]
        code += [(_JEQ, 1, 0, audit), (_JUMP, 0, 0, len(body)), *body]
    return [*code, (_RETURN, 0, 0, KILL_THREAD)]


def _tree(ranges: tuple[tuple[int, Fate], ...]) -> list[Instruction]:
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    low, high = _tree(ranges[:middle]), _tree(ranges[middle:])
    border = ranges[middle][0]
    if len(low) <= _FAR:
        return [(_JGE, len(low), 0, border), *low, *high]
    return [(_JGE, 0, 1, border), (_JUMP, 0, 0, len(low)), *low, *high]


def _leaf(fate: Fate) -> list[Instruction]:
    code: list[Instruction] = []
    for args, value in fate:
        block: list[Instruction] = [(_RETURN, 0, 0, value)]
        for arg in reversed(args):
            block = [*_comparison(arg, len(block)), *block]
        code += block
    return code


def _comparison(arg: SyscallArg, rest: int) -> list[Instruction]:
    """Go on behind this comparison when it holds, else skip the `rest` instructions that follow it too.

    Arguments are 64 bits wide and compared unsigned, the high half first; the machine is little-endian.
    """
    low_at, high_at = _ARGS + 8 * arg.index, _ARGS + 8 * arg.index + 4
    high, low = arg.value >> 32, arg.value & 0xFFFFFFFF
    op = arg.op.removeprefix("SCMP_CMP_")
    # In each list below a jump of 0 goes on, `rest` (plus what is left of the list) fails.
    if op == "EQ":
        return [
            (_LOAD, 0, 0, high_at),
            (_JEQ, 0, rest + 2, high),
            (_LOAD, 0, 0, low_at),
            (_JEQ, 0, rest, low),
        ]
    if op == "NE":
        return [(_LOAD, 0, 0, high_at), (_JEQ, 0, 2, high), (_LOAD, 0, 0, low_at), (_JEQ, rest, 0, low)]
    if op == "MASKED_EQ":
        high_datum, low_datum = arg.value_two >> 32, arg.value_two & 0xFFFFFFFF
        return [
            *((_LOAD, 0, 0, high_at), (_AND, 0, 0, high), (_JEQ, 0, rest + 3, high_datum)),
            *((_LOAD, 0, 0, low_at), (_AND, 0, 0, low), (_JEQ, 0, rest, low_datum)),
        ]
    last = _JGT if op in ("GT", "LE") else _JGE  # LE is not GT, LT is not GE
    if op in ("GT", "GE"):
        return [
            *((_LOAD, 0, 0, high_at), (_JGT, 3, 0, high), (_JEQ, 0, rest + 2, high)),
            *((_LOAD, 0, 0, low_at), (last, 0, rest, low)),
        ]
    return [
        *((_LOAD, 0, 0, high_at), (_JGT, rest + 3, 0, high), (_JEQ, 0, 2, high)),
        *((_LOAD, 0, 0, low_at), (last, rest, 0, low)),
    ]
