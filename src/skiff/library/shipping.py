"""A Python function as something that can be sent: the source of what it needs, the values it uses.

Functions and classes of the function's own module (its home) travel as source text, with the lines they have
there; what comes from other modules is imported over there; other values are pickled. Only what the function
reaches is taken, so a script's own actions do not run again. Nothing depends on the version of Python.
"""

import __future__

import ast
import base64
import builtins
import inspect
import io
import pickle
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from skiff.errors import InvalidParameter

PROTOCOL = 4
DECORATOR = "skiff.library.function"  # where what `@skiff.function` comes to is defined
Definition = list[Any]


class Unwrapped:
    """Base of what stands for a function in its module: `wrapped` is the function."""

    wrapped: Callable[..., Any]


def packed(
    function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, Any]:
    """home, entry, definitions and arguments of call.json (library/runner.py). Raises InvalidParameter."""
    if not isinstance(function, types.FunctionType):
        raise InvalidParameter(f"expected a function made with def, not {function!r}")
    if function.__name__ == "<lambda>":
        raise InvalidParameter("a lambda has no source of its own to send: give it a name with def")
    around = function.__qualname__.rpartition(".")[0]
    if around and not around.endswith("<locals>"):
        raise InvalidParameter(
            f"{function.__qualname__} is a method, which cannot be sent: call it from a function that is sent"
        )
    shipment = _Shipment(function)
    arguments = shipment.pickled((tuple(args), dict(kwargs)), "an argument")
    return {
        "home": shipment.home,
        "entry": function.__name__,
        "definitions": shipment.definitions,
        "arguments": arguments,
    }


class _Shipment:
    def __init__(self, function: types.FunctionType) -> None:
        self.home = function.__module__
        self.definitions: list[Definition] = []
        self._space = function.__globals__
        self._taken: dict[str, object] = {}
        self._take(function.__name__, function)

    def _take(self, name: str, value: object) -> None:
        """Everything that `name` needs, then `name`, then what its bodies will need when they run."""
        value = value.wrapped if isinstance(value, Unwrapped) else value
        if name in self._taken:
            if self._taken[name] is not value:
                raise InvalidParameter(f"{name} means two different things in what is to be sent")
            return
        self._taken[name] = value
        if isinstance(value, types.ModuleType):
            self.definitions.append(["import", name, value.__name__])
        elif self._is_ours(value):
            self._take_source(name, value)
        elif isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)) and value.__module__:
            self.definitions.append(["from", name, value.__module__, value.__qualname__])
        else:
            self.definitions.append(["value", name, self.pickled(value, name)])

    def _is_ours(self, value: object) -> bool:
        return isinstance(value, (type, types.FunctionType)) and value.__module__ == self.home

    def _take_source(self, name: str, value: Any) -> None:
        if value.__name__ != name:
            self._take(value.__name__, value)
            alias = f"{name} = {value.__name__}"
            self.definitions.append(["source", name, alias, "<skiff>", 1, 0])
            return
        around = {**self._space, **_enclosed(value)}
        text, file, first = _source(value, around)
        at_once, later = _names(text, name)
        for needed in at_once:
            self._take_known(needed, around)
        flags = __future__.annotations.compiler_flag if self._postpones() else 0
        self.definitions.append(["source", name, text, file, first, flags])
        for needed in later:
            self._take_known(needed, around)

    def _take_known(self, name: str, around: Mapping[str, object]) -> None:
        """What is not known here may be there: a name that is missing is told when it is used."""
        if name in around and not name.startswith("__"):
            self._take(name, around[name])

    def _postpones(self) -> bool:
        return self._space.get("annotations") is __future__.annotations

    def pickled(self, value: object, what: str) -> str:
        """Base64; classes of the home that occur in it are taken along."""
        buffer = io.BytesIO()
        pickler = _Pickler(buffer, PROTOCOL)
        pickler.home, pickler.met = self.home, []
        try:
            pickler.dump(value)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise InvalidParameter(f"{what} cannot be sent to a container: {error}") from error
        for met in pickler.met:
            top = met.__qualname__.partition(".")[0]
            if top in self._space:
                self._take(top, self._space[top])
        return base64.b64encode(buffer.getvalue()).decode()


class _Pickler(pickle.Pickler):
    """Notices the classes and functions of a module that a value refers to."""

    home: str
    met: list[Any]

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (type, types.FunctionType)) and value.__module__ == self.home:
            self.met.append(value)
        return NotImplemented


def _source(value: Any, around: Mapping[str, object]) -> tuple[str, str, int]:
    """(text, file, number of its first line). The decorator that made it run elsewhere is left out."""
    try:
        lines, first = inspect.getsourcelines(value)
        file = inspect.getsourcefile(value) or "<unknown>"
    except (OSError, TypeError) as error:
        raise InvalidParameter(
            f"{value.__qualname__} has no source to send: what was typed at a prompt has to be in a file"
        ) from error
    text = textwrap.dedent("".join(lines)).rstrip("\n")
    try:
        node = ast.parse(text).body[0]
    except SyntaxError as error:
        raise InvalidParameter(
            f"{value.__qualname__} cannot be sent apart from where it stands: {error}"
        ) from error
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        ours = [decorator for decorator in node.decorator_list if _is_ours(decorator, around)]
        kept = text.split("\n")
        for decorator in ours:
            for number in range(decorator.lineno - 1, decorator.end_lineno or decorator.lineno):
                kept[number] = ""
        text = "\n".join(kept)
    return text, file, max(first, 1)


def _is_ours(decorator: ast.expr, around: Mapping[str, object]) -> bool:
    """Whether `@skiff.function(…)`, under whatever name, is what it comes to."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    found: object = around.get(node.id) if isinstance(node, ast.Name) else None
    for name in reversed(path):
        found = getattr(found, name, None)
    return getattr(found, "__module__", "") == DECORATOR


def _names(text: str, name: str) -> tuple[list[str], list[str]]:
    """Names that a definition takes from around it: while it is made, and when its bodies run."""
    try:
        table = symtable.symtable(text, "<definition>", "exec")
    except SyntaxError as error:  # nonlocal
        raise InvalidParameter(f"{name} cannot be sent apart from where it stands: {error}") from error
    at_once: dict[str, None] = {}
    later: dict[str, None] = {}
    for symbol in table.get_symbols():
        if symbol.is_referenced():
            at_once[symbol.get_name()] = None
    for found, in_body in _globals(table, in_body=False):
        (later if in_body else at_once)[found] = None
    known = set(dir(builtins)) | {name}
    return (
        [found for found in at_once if found not in known],
        [found for found in later if found not in known and found not in at_once],
    )


def _globals(table: symtable.SymbolTable, *, in_body: bool) -> Iterator[tuple[str, bool]]:
    for child in table.get_children():
        inside = in_body or child.get_type() == "function"
        for symbol in child.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                yield symbol.get_name(), inside
        yield from _globals(child, in_body=inside)


def _enclosed(value: Any) -> dict[str, object]:
    """What a function inside another one takes from it."""
    if not isinstance(value, types.FunctionType) or not value.__closure__:
        return {}
    found = {}
    for name, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not yet given a value
    return found


def search_path() -> list[str]:
    """Where this process imports from, as absolute paths: for a container that has this machine's files."""
    import os

    return [os.path.abspath(entry) for entry in sys.path]
