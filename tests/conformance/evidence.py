"""Which tests show an endpoint, its parameters, a command, its flags.

Stories of the differential test are asked first. Then the calls that tests make: a call with the words of a
command shows the flags among them; a call with an endpoint's path shows the keywords and keys it is given.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from skiff.cli import main as cli
from skiff.cli.flags import FlagError, HelpWanted, parse_flags
from skiff.errors import NotImplementedHere
from tests.conformance.differential import cases

TESTS: Final = Path(__file__).parents[1]
MOST: Final = 3
STORY: Final = "differential/{}"
LONGEST: Final = 3  # words of a command
# Files about some commands: what begins with a dash in them is a line of flags.
SUBJECTS: Final = {
    "unit/cli/test_run_flags": ("run", "create"),  # they have the same flags, and one module for both
    "unit/cli/test_build_query": ("build",),
}


class Shown(NamedTuple):
    """What one call or case gives. path: an API path, or nothing. words: of a command line, or none.

    names: of parameters, fields and filters.
    """

    test: str
    path: str
    method: str
    words: tuple[str, ...]
    names: frozenset[str]


def of_endpoint(method: str, path: str) -> list[str]:
    """The best first, and no more than a few."""
    return _first(one.test for one in _asked(method, path))


def of_parameter(method: str, path: str, name: str) -> list[str]:
    """name: of a query parameter, a field of the body, a header; `filters.label` is the key of a filter."""
    if name.startswith("X-"):
        return _first(test for test, names in _headers() if name in names)
    wanted = name.rpartition(".")[2]
    return _first(one.test for one in _asked(method, path) if wanted in one.names)


def of_command(words: str) -> list[str]:
    """words: those after `docker`; its other spellings count, too."""
    return _first(one.test for one, _ in _given(words))


def of_flag(words: str, flag: str, short: str) -> list[str]:
    """flag: with its dashes. short: its letter, or nothing."""
    return _first(test.test for test, given in _given(words) if flag in given or f"-{short}" in given)


def _first(tests: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(tests))[:MOST]


@cache
def _headers() -> tuple[tuple[str, str], ...]:
    """The tests in which a header is sent or read, with their text."""
    return tuple((test, text) for test, text in _files() if '"X-' in text)


@cache
def _asked(method: str, path: str) -> tuple[Shown, ...]:
    shape = re.compile(r"(?:/v[0-9.]+)?" + re.sub(r"\\\{[^}]*\\\}", "[^?]+?", re.escape(path)))
    return tuple(
        one for one in _shown() if one.path and one.method in (method, "") and shape.fullmatch(one.path)
    )


@cache
def _given(words: str) -> tuple[tuple[Shown, frozenset[str]], ...]:
    """The command lines of a command, each with its flags."""
    known = cli.SPELLINGS.get(words)
    spelled = {spelling for spelling, command in cli.SPELLINGS.items() if command == known} or {words}
    found = []
    for one in _shown():
        line = list(one.words)
        for count in range(min(LONGEST, len(line)), -1, -1):
            if " ".join(line[:count]) in (spelled if words else {""}):
                found.append((one, _flags(words, line[count:])))
                break
    return tuple(found)


def _flags(words: str, argv: list[str]) -> frozenset[str]:
    """The flags given, by their long names; of a line that is wrong, those that are spelled out."""
    try:
        command = cli.load(words) if words else None
        rows = command.flags if command else cli.GLOBAL_FLAGS
        interspersed = command.interspersed if command else False
        kinds = command.kinds if command else None
        given = parse_flags(rows, argv, interspersed=interspersed, kinds=kinds).changed
        return frozenset(f"--{name}" for name in given)
    except HelpWanted:
        return frozenset(("--help",))
    except (FlagError, KeyError, NotImplementedHere):
        return frozenset(word.partition("=")[0] for word in argv if word.startswith("-"))


@cache
def _shown() -> tuple[Shown, ...]:
    return (*_in_stories(), *_in_calls())


def _in_stories() -> Iterator[Shown]:
    for story in cases.stories():
        test = STORY.format(story)
        for case in cases.read(story):
            if case.method == "$":
                yield Shown(test, "", "", tuple(shlex.split(case.target)), frozenset())
            else:
                path, _, query = case.target.partition("?")
                names = {word.partition("=")[0] for word in query.split("&")}
                names |= set(re.findall(r'"([^"]+)":', query + case.body))
                yield Shown(test, path, case.method, (), frozenset(names))


def _in_calls() -> Iterator[Shown]:
    for test, text in _files():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                yield from _of_call(test, node)
            elif isinstance(node, ast.Constant) and str(node.value).startswith("-"):
                for command in SUBJECTS.get(test, ()):
                    yield Shown(test, "", "", (command, *str(node.value).split()), frozenset())


@cache
def _files() -> tuple[tuple[str, str], ...]:
    return tuple(
        (str(file.relative_to(TESTS)).removesuffix(".py"), file.read_text())
        for folder in ("integration", "conformance", "unit")
        for file in sorted((TESTS / folder).rglob("*.py"))
    )


def _of_call(test: str, call: ast.Call) -> Iterator[Shown]:
    words = [word for argument in call.args for word in _words(argument)]
    if not words:
        return
    path = next((word for word in words[:3] if word.startswith("/")), "")
    names = {keyword.arg for keyword in call.keywords if keyword.arg}
    names |= {
        key.value
        for part in ast.walk(call)
        if isinstance(part, ast.Dict)
        for key in part.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    if path:
        bare, _, query = path.partition("?")
        names |= {word.partition("=")[0] for word in query.split("&")}
        yield Shown(test, bare, _method(call, words), (), frozenset(names))
    yield Shown(test, "", "", tuple(words), frozenset())


def _method(call: ast.Call, words: list[str]) -> str:
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("get", "post", "put", "delete", "head"):
        return call.func.attr.upper()
    return words[0] if words[0].isupper() else ""


def _words(argument: ast.expr) -> Iterator[str]:
    """The strings of an argument; what only a run would know is an `x`."""
    match argument:
        case ast.Constant(value=str(text)):
            yield from text.split() if " " in text and not text.startswith(("/", "-")) else [text]
        case ast.JoinedStr(values=values):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in values)
        case ast.List(elts=inner) | ast.Tuple(elts=inner):
            for one in inner:
                yield from _words(one)
        case ast.Starred(value=value):
            yield from _words(value)
        case ast.Dict() | ast.Constant():
            return
        case _:
            yield "x"
