"""Docker's flag grammar: argv → flags and arguments, and the words for what is wrong with them.

A command is light data: `Command` holds rows of (name, short, kind, default, help). Help and completion are
rendered from the same rows (cli/help.py). Pure, and imports nothing: it stands on the path of every command.

    --name value   --name=value   -n value   -nvalue   -n=value   -it (a cluster)   --bool=false   --
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Flag = tuple[str, str, str, Any, str]
    Act = Callable[[Any, "Parsed"], int]

LIST_KINDS = {"list", "csv", "map", "filter", "stringToString"}  # given several times, the values add up
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}
ANY = -1


class FlagError(Exception):
    """A flag that cannot be: `str(error)` is the sentence; main adds the usage. Exit code 125."""


class ArgumentError(Exception):
    """Too few or too many arguments. Exit code 1."""


class HelpWanted(Exception):
    """`--help` was among the flags."""


class Command:
    """One command: what help prints and what `parse` obeys.

    tail:    what follows the command in its usage line: "[OPTIONS] IMAGE [COMMAND] [ARG...]"
    flags:   rows (name, short or "", kind, default, help); hidden ones have "" as help
    act:     called with (Session, Parsed); gives the exit code
    least, most: how many arguments; most = ANY for no limit
    interspersed: flags may follow the first argument (not so for run, exec, top, …)
    kinds:   parsers of a kind, or of one flag ("--name"): str → value, ValueError(reason)
    aliases: every full spelling ("container ls", "container list", "ps"), as help shows them
    long:    what its own page says instead of `about`, which is one sentence for lists
    forms:   (tail, about) of usages that Docker has not, for help alone
    spare:   how an argument begins that may follow beyond the last
    exit_code: of errors that the command does not answer itself
    """

    __slots__ = (
        "about",
        "act",
        "aliases",
        "exit_code",
        "flags",
        "forms",
        "interspersed",
        "kinds",
        "least",
        "long",
        "most",
        "spare",
        "tail",
    )

    def __init__(
        self,
        tail: str,
        about: str,
        act: Act,
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int = ANY,
        interspersed: bool = True,
        kinds: Mapping[str, Callable[[str], Any]] | None = None,
        aliases: Sequence[str] = (),
        long: str = "",
        forms: Sequence[tuple[str, str]] = (),
        spare: str = "",
        exit_code: int = 1,
    ) -> None:
        self.tail = tail
        self.about = about
        self.act = act
        self.flags = flags
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.kinds = kinds or {}
        self.aliases = aliases
        self.long = long
        self.forms = forms
        self.spare = spare
        self.exit_code = exit_code


class Parsed:
    """What was asked: `parsed["no-trunc"]`, `parsed.args`; `parsed.changed` names the flags that were given.

    path: how the command was spelled, "container ls" or "ps".
    """

    __slots__ = ("args", "changed", "path", "values")

    def __init__(self, path: str, values: dict[str, Any], args: list[str], changed: set[str]) -> None:
        self.path = path
        self.values = values
        self.args = args
        self.changed = changed

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse(command: Command, path: str, argv: Sequence[str]) -> Parsed:
    """Argv (without the command's own words) → Parsed. Raises FlagError, ArgumentError, HelpWanted."""
    parsed = parse_flags(command.flags, argv, interspersed=command.interspersed, kinds=command.kinds)
    parsed.path = path
    args = parsed.args
    has_spare = command.spare and len(args) > 1 and args[-1].startswith(command.spare)
    check_count(command, path, len(args) - bool(has_spare))
    return parsed


def check_count(command: Command, path: str, count: int) -> None:
    least, most = command.least, command.most
    if least <= count and (most == ANY or count <= most):
        return
    name = f"'skiff {path}'"
    if most == 0:
        raise ArgumentError(f"{name} accepts no arguments")
    if least == most:
        raise ArgumentError(f"{name} requires {least} {_arguments(least)}")
    if most == ANY:
        raise ArgumentError(f"{name} requires at least {least} {_arguments(least)}")
    if least == 0:
        raise ArgumentError(f"{name} requires at most {most} {_arguments(most)}")
    raise ArgumentError(f"{name} requires at least {least} and at most {most} arguments")


def _arguments(count: int) -> str:
    return "argument" if count == 1 else "arguments"


def parse_flags(
    flags: Sequence[Flag],
    argv: Sequence[str],
    *,
    interspersed: bool,
    kinds: Mapping[str, Callable[[str], Any]] | None = None,
) -> Parsed:
    """The grammar alone, without counting arguments."""
    by_name = {flag[0]: flag for flag in flags}
    by_short = {flag[1]: flag for flag in flags if flag[1]}
    values: dict[str, Any] = {
        name: list(default or ()) if kind in LIST_KINDS or isinstance(default, (list, tuple)) else default
        for name, _, kind, default, _ in flags
    }
    parsed = Parsed("", values, [], set())
    words = list(argv)
    at = 0

    def keep(flag: Flag, text: str) -> None:
        _keep(parsed, flag, text, kinds or {})

    while at < len(words):
        word = words[at]
        at += 1
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                parsed.args += words[at - 1 :]
                break
            parsed.args.append(word)
        elif word == "--":
            parsed.args += words[at:]
            break
        elif word[1] == "-":
            name, equals, text = word[2:].partition("=")
            if name.startswith("-") or not name:
                raise FlagError(f"bad flag syntax: {word}")
            flag = by_name.get(name)
            if flag is None:
                if name == "help":
                    raise HelpWanted
                raise FlagError(f"unknown flag: --{name}")
            if equals:
                keep(flag, text)
            elif flag[2] == "bool":
                keep(flag, "true")
            elif at < len(words):
                keep(flag, words[at])
                at += 1
            else:
                raise FlagError(f"flag needs an argument: --{name}")
        else:
            at = _cluster(word[1:], words, at, by_short, keep)
    return parsed


def _cluster(
    cluster: str, words: list[str], at: int, by_short: Mapping[str, Flag], keep: Callable[[Flag, str], None]
) -> int:
    """-it, -p80:80, -e=A, -e A; gives the index of the next word."""
    rest = cluster
    while rest:
        letter, rest = rest[0], rest[1:]
        flag = by_short.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpWanted
            raise FlagError(f"unknown shorthand flag: {letter!r} in -{letter}{rest}")
        if rest[:1] == "=" and len(rest) > 1:
            keep(flag, rest[1:])
            return at
        if flag[2] == "bool":
            keep(flag, "true")
        elif rest:
            keep(flag, rest)
            return at
        elif at < len(words):
            keep(flag, words[at])
            return at + 1
        else:
            raise FlagError(f"flag needs an argument: {letter!r} in -{letter}")
    return at


def _keep(parsed: Parsed, flag: Flag, text: str, kinds: Mapping[str, Callable[[str], Any]]) -> None:
    name, short, kind, _, _ = flag
    try:
        value = (kinds.get(f"--{name}") or kinds.get(kind) or KINDS.get(kind) or str)(text)
    except ValueError as error:
        shown = f"-{short}, --{name}" if short else f"--{name}"
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        raise FlagError(f'invalid argument "{quoted}" for "{shown}" flag: {error}') from None
    held = parsed.values[name]
    if kind in ("csv", "stringToString"):
        if name not in parsed.changed:
            held = []  # what is given replaces the default
        parsed.values[name] = held + value
    elif isinstance(held, list):
        held.append(value)
    else:
        parsed.values[name] = value
    parsed.changed.add(name)


def parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str) -> int:
    return _integer(text, "ParseInt", -(1 << 63), (1 << 63) - 1)


def parse_uint(text: str) -> int:
    return _integer(text, "ParseUint", 0, (1 << 64) - 1)


def parse_uint16(text: str) -> int:
    return _integer(text, "ParseUint", 0, (1 << 16) - 1)


def _integer(text: str, function: str, lowest: int, highest: int) -> int:
    """Base 10, or by its prefix: 0x10, 0o10, 010, 0b10."""
    wrong = ValueError(f'strconv.{function}: parsing "{text}": invalid syntax')
    sign = -1 if text[:1] == "-" else 1
    digits = text[1:] if text[:1] in ("-", "+") else text
    if function == "ParseUint" and digits != text:
        raise wrong
    if not digits or digits != digits.strip() or digits[0] in "+-_":
        raise wrong
    if digits[0] == "0" and digits.strip("01234567") == "":
        digits = "0o" + digits
    try:
        value = sign * int(digits, 0)
    except ValueError:
        raise wrong from None
    if not lowest <= value <= highest:
        raise ValueError(f'strconv.{function}: parsing "{text}": value out of range')
    return value


_NANOSECONDS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def parse_duration(text: str) -> int:
    """1h2m3.5s → nanoseconds: [-+] (decimal unit)+, or 0."""
    wrong = f'time: invalid duration "{text}"'
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(wrong)
    total = 0
    while rest:
        number = ""
        while rest and (rest[0] in "0123456789."):
            number, rest = number + rest[0], rest[1:]
        unit = ""
        while rest and rest[0] not in "0123456789.":
            unit, rest = unit + rest[0], rest[1:]
        whole, _, fraction = number.partition(".")
        if not (whole or fraction) or "." in fraction:
            raise ValueError(wrong)
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _NANOSECONDS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        scale = _NANOSECONDS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    return -total if text[0] == "-" else total


_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_bytes(text: str) -> int:
    """512m, 1.5g, 64k, 1GiB, 100 → bytes, by powers of 1024."""
    wrong = f"invalid size: '{text}'"
    end = len(text)
    while end and text[end - 1] not in "0123456789.":
        end -= 1
    number, unit = text[:end], text[end:].removeprefix(" ").lower()
    if len(unit) > 1:
        if unit[0] == "b" or unit[1:] not in ("b", "ib"):
            raise ValueError(f"invalid suffix: '{text[end:].removeprefix(' ').lower()}'" if end else wrong)
        unit = unit[0]
    if not number:
        raise ValueError(wrong)
    if unit not in _POWERS:
        raise ValueError(f"invalid suffix: '{unit}'")
    try:
        size = float(number)
    except ValueError:
        raise ValueError(wrong) from None
    if size < 0:
        raise ValueError(wrong)
    return int(size * 1024 ** _POWERS[unit]) if "." in number else int(number) << (10 * _POWERS[unit])


def parse_csv(text: str) -> list[str]:
    """a,b,"c,d" → [a, b, c,d]: one record of RFC 4180. Raises ValueError."""
    if not text:
        return []
    fields: list[str] = []
    rest = text
    while True:
        if rest[:1] == '"':
            field, at = "", 1
            while True:
                quote = rest.find('"', at)
                if quote < 0:
                    raise _stray_quote(len(text) + 1)
                field += rest[at:quote]
                at = quote + 1
                if rest[at : at + 1] != '"':
                    break
                field += '"'
                at += 1
            if at < len(rest) and rest[at] != ",":
                raise _stray_quote(len(text) - len(rest) + at)
            fields.append(field)
            more, rest = at < len(rest), rest[at + 1 :]
        else:
            field, comma, rest = rest.partition(",")
            if '"' in field:
                raise ValueError(
                    f'parse error on line 1, column {text.find(chr(34)) + 1}: bare " in non-quoted-field'
                )
            fields.append(field)
            more = bool(comma)
        if not more:
            return fields


def _stray_quote(column: int) -> ValueError:
    return ValueError(f'parse error on line 1, column {column}: extraneous or missing " in quoted-field')


KINDS: dict[str, Callable[[str], Any]] = {
    "bool": parse_bool,
    "int": parse_int,
    "uint": parse_uint,
    "uint16": parse_uint16,
    "duration": parse_duration,
    "bytes": parse_bytes,
    "csv": parse_csv,
}
