"""cli/flags.py: docker's grammar and docker's complaints."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.cli.flags import (
    ArgumentError,
    Command,
    FlagError,
    HelpWanted,
    Parsed,
    parse,
    parse_bytes,
    parse_csv,
    parse_duration,
    parse_flags,
)

FLAGS: tuple[tuple[str, str, str, Any, str], ...] = (
    ("interactive", "i", "bool", False, ""),
    ("tty", "t", "bool", False, ""),
    ("sig-proxy", "", "bool", True, ""),
    ("publish", "p", "list", [], ""),
    ("env", "e", "list", [], ""),
    ("time", "", "int", 10, ""),
    ("memory", "m", "bytes", 0, ""),
    ("name", "", "string", "", ""),
)


def read(*argv: str, interspersed: bool = True) -> Parsed:
    return parse_flags(FLAGS, argv, interspersed=interspersed)


@pytest.mark.parametrize(
    ("argv", "values", "args"),
    [
        (["-it", "x"], {"interactive": True, "tty": True}, ["x"]),
        (["-itp80:80", "x"], {"tty": True, "publish": ["80:80"]}, ["x"]),
        (["-p", "1", "-p=2", "--publish", "3", "--publish=4"], {"publish": ["1", "2", "3", "4"]}, []),
        (["-t=false", "x"], {"tty": False}, ["x"]),
        (["--tty=0", "--sig-proxy=F"], {"tty": False, "sig-proxy": False}, []),
        (["x", "--name", "--name"], {"name": "--name"}, ["x"]),
        (["x", "--", "--name"], {"name": ""}, ["x", "--name"]),
        (["-", "-e", "A=B=C"], {"env": ["A=B=C"]}, ["-"]),
        (["--time", "0x10"], {"time": 16}, []),
        (["-m64m"], {"memory": 64 << 20}, []),
        (["--name="], {"name": ""}, []),
    ],
)
def test_grammar(argv: list[str], values: dict[str, Any], args: list[str]) -> None:
    parsed = read(*argv)
    assert {name: parsed[name] for name in values} == values
    assert parsed.args == args


def test_flags_end_at_the_image() -> None:
    parsed = read("-i", "busybox", "-t", "--", "--name", interspersed=False)
    assert parsed["interactive"] and not parsed["tty"]
    assert parsed.args == ["busybox", "-t", "--", "--name"]


def test_what_was_given_is_known() -> None:
    assert read("--time", "10", "-i").changed == {"time", "interactive"}


def test_defaults_are_not_shared() -> None:
    read("-p", "1")
    assert read()["publish"] == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-Q"], "unknown shorthand flag: 'Q' in -Q"),
        (["-iQx"], "unknown shorthand flag: 'Q' in -Qx"),
        (["--name"], "flag needs an argument: --name"),
        (["-p"], "flag needs an argument: 'p' in -p"),
        (["-m", "abc"], """invalid argument "abc" for "-m, --memory" flag: invalid size: 'abc'"""),
        (
            ["--time=a"],
            'invalid argument "a" for "--time" flag: strconv.ParseInt: parsing "a": invalid syntax',
        ),
        (
            ["--tty=foo"],
            'invalid argument "foo" for "-t, --tty" flag: strconv.ParseBool: parsing "foo": invalid syntax',
        ),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
    ],
)
def test_complaints(argv: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        read(*argv)
    assert str(caught.value) == message


def test_help_is_asked_for() -> None:
    for word in ("--help", "-h"):
        with pytest.raises(HelpWanted):
            read(word)


@pytest.mark.parametrize(
    ("least", "most", "count", "message"),
    [
        (1, -1, 0, "'skiff x' requires at least 1 argument"),
        (2, -1, 1, "'skiff x' requires at least 2 arguments"),
        (1, 1, 2, "'skiff x' requires 1 argument"),
        (0, 0, 1, "'skiff x' accepts no arguments"),
        (0, 1, 2, "'skiff x' requires at most 1 argument"),
        (1, 2, 3, "'skiff x' requires at least 1 and at most 2 arguments"),
    ],
)
def test_counts(least: int, most: int, count: int, message: str) -> None:
    command = Command("", "", lambda session, flags: 0, least=least, most=most)
    with pytest.raises(ArgumentError) as caught:
        parse(command, "x", ["a"] * count)
    assert str(caught.value) == message


@given(st.lists(st.text(max_size=8)))
def test_any_line_is_parsed_or_refused(argv: list[str]) -> None:
    try:
        parsed = read(*argv)
    except (FlagError, HelpWanted):
        return
    assert len(parsed.args) <= len(argv)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("5s", 5e9), ("1h2m3.5s", 3723.5e9), ("-1ms", -1e6), ("0", 0), ("1.5us", 1500), (".5s", 5e8)],
)
def test_durations(text: str, nanoseconds: float) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "1..2s", "-"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64m", 64 << 20), ("1.5g", 3 << 29), ("100", 100), ("1GiB", 1 << 30), ("2kb", 2048), ("5 k", 5120)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@given(st.text(max_size=12))
def test_any_size_is_read_or_refused(text: str) -> None:
    try:
        assert parse_bytes(text) >= 0
    except ValueError:
        pass


def test_csv() -> None:
    assert parse_csv('a,"b,c","d""e",') == ["a", "b,c", 'd"e', ""]
    with pytest.raises(ValueError, match="bare"):
        parse_csv('a,b"c')


def test_a_spare_argument_is_not_counted() -> None:
    command = Command("NAME", "", lambda *_: 0, least=1, most=1, spare="ssh://")
    assert parse(command, "push", ["a", "ssh://h"]).args == ["a", "ssh://h"]
    for words in (["ssh://h", "b"], [], ["a", "b"], ["a", "b", "ssh://h"]):
        with pytest.raises(ArgumentError, match="'skiff push' requires 1 argument"):
            parse(command, "push", words)
