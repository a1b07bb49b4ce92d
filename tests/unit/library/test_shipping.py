"""library/shipping.py and library/runner.py: what is packed here runs in a bare interpreter there."""

import base64
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import skiff
from skiff.errors import InvalidParameter
from skiff.library import results, runner, shipping

FACTOR = 3
remote = skiff.function(image="busybox")


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Point:
    x: int
    y: int = FACTOR

    def moved(self) -> "Line":
        return Line(self, Point(self.x + 1))


class Line(Point):
    def __init__(self, start: Point, end: Point) -> None:
        super().__init__(start.x, end.x)


class Odd(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stubborn(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("cannot be made anew from this")


ORIGIN = Point(1)


def helper(value: int) -> int:
    return value * FACTOR if value else even(value)


def even(value: int) -> int:
    return helper(value + 1)


@remote
def decorated(value: int) -> int:
    return helper(value)


@skiff.function(
    image="busybox",
    network="none",
)
def calls_another(value: int) -> int:
    return decorated(value) + 1


def uses_classes(point: Point) -> Line:
    assert ORIGIN.y == FACTOR
    assert point is not None
    return point.moved()


def uses_modules(name: str) -> "OrderedDict[str, str]":
    return OrderedDict(name=os.path.basename(name), text=json.dumps([Colour.RED.value]))


async def later(value: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return value + 1


def fails(how: str) -> object:
    if how == "odd":
        raise Odd(7)
    if how == "stubborn":
        raise Stubborn(1, 2)
    if how == "exit":
        sys.exit(4)
    if how == "unknown":
        return undefined_name  # type: ignore[name-defined]  # noqa: F821
    return (number for number in range(3))


def call(tmp_path: Path, function: Any, *args: object, **kwargs: object) -> Any:
    """As a container would run it: another process, nothing of this package in sight."""
    wrapped = function.wrapped if isinstance(function, skiff.Function) else function
    packed = {**shipping.packed(wrapped, args, kwargs), "path": []}
    (tmp_path / "call.json").write_text(json.dumps(packed))
    (tmp_path / "runner.py").write_bytes(Path(runner.__file__).read_bytes())
    command = [sys.executable, "-I", str(tmp_path / "runner.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 0, done.stderr
    return results.value((tmp_path / "result").read_bytes(), packed["home"])


@pytest.mark.parametrize(
    ("function", "argument", "value"),
    [
        (helper, 2, 6),
        (even, 0, 3),
        (decorated, 2, 6),
        (calls_another, 2, 7),
        (later, 1, 2),
        (uses_modules, "/a/b", OrderedDict(name="b", text="[1]")),
    ],
)
def test_a_function_gives_the_same_over_there(
    tmp_path: Path, function: Any, argument: object, value: object
) -> None:
    assert call(tmp_path, function, argument) == value


def test_classes_travel_both_ways_and_are_ours_again(tmp_path: Path) -> None:
    came = call(tmp_path, uses_classes, point=Point(4))
    assert type(came) is Line
    assert (came.x, came.y) == (4, 5)


def test_a_function_in_a_function_takes_along_what_it_encloses(tmp_path: Path) -> None:
    shift = 10

    @skiff.function(image="busybox")
    def inner(value: int) -> int:
        return helper(value) + shift

    assert call(tmp_path, inner, 1) == 13


def test_what_it_raises_is_raised_here_with_the_lines_of_there(tmp_path: Path) -> None:
    with pytest.raises(Odd) as caught:
        call(tmp_path, fails, "odd")
    assert caught.value.number == 7
    text = str(caught.value.__cause__)
    assert "raise Odd(7)" in text
    line = next(n for n, row in enumerate(Path(__file__).read_text().split("\n"), 1) if "raise Odd(7)" in row)
    assert f'test_shipping.py", line {line}, in fails' in text
    assert "runner.py" not in text


@pytest.mark.parametrize(
    ("how", "kind", "sentence"),
    [
        ("stubborn", results.FunctionFailed, "cannot be made anew from this"),
        ("exit", results.FunctionFailed, "SystemExit: 4"),
        ("unknown", NameError, "undefined_name"),
        ("generator", TypeError, "cannot pickle 'generator' object"),
    ],
)
def test_failures(tmp_path: Path, how: str, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        call(tmp_path, fails, how)


def test_only_what_is_reached_is_taken() -> None:
    names = [definition[1] for definition in shipping.packed(helper, (1,), {})["definitions"]]
    assert names == ["helper", "FACTOR", "even"]


def test_what_cannot_be_sent_is_said() -> None:
    held = 0

    def counter() -> int:
        nonlocal held
        held += 1
        return held

    handle = sys.stdout

    def writes() -> None:
        handle.write("x")

    for function, arguments, sentence in (
        (lambda: 1, (), "give it a name with def"),
        (len, (), "expected a function made with def"),
        (Odd.__init__, (None, 1), r"Odd\.__init__ is a method, which cannot be sent"),
        (counter, (), "apart from where it stands"),
        (writes, (), "handle cannot be sent to a container"),
        (helper, (handle,), "an argument cannot be sent"),
    ):
        with pytest.raises(InvalidParameter, match=sentence):
            shipping.packed(function, arguments, {})
    space: dict[str, Any] = {}
    exec("def typed(): return 1", space)
    with pytest.raises(InvalidParameter, match="has to be in a file"):
        shipping.packed(space["typed"], (), {})


class Evil:
    def __init__(self, callable: Any, *args: object) -> None:
        self.what = callable, args

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize(
    "value",
    [
        Evil(os.system, "true"),
        Evil(eval, "1"),
        Evil(getattr, "x", "upper"),
        Evil(subprocess.Popen, ["true"]),
        Evil(helper, 1),
        Evil(base64.b64decode, "eA=="),
    ],
)
def test_an_answer_calls_nothing_of_ours(value: object) -> None:
    for answer in (
        pickle.dumps({"value": value}),
        pickle.dumps({"error": pickle.dumps(value), "kind": "E", "text": "E: e\n"}),
    ):
        with pytest.raises(results.FunctionFailed):
            results.value(answer, __name__)


def test_trust_lets_a_package_in() -> None:
    answer = pickle.dumps({"value": Evil(base64.b64decode, "eA==")})
    assert results.value(answer, __name__, ["base64"]) == b"x"


@pytest.mark.parametrize("answer", [b"", b"garbage", pickle.dumps(3), pickle.dumps({})])
def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    with pytest.raises(results.FunctionFailed):
        results.value(answer, __name__)
