"""The program that runs a function in a container. It travels there as text: the standard library alone, and
any Python from 3.7 on.

    python runner.py FOLDER     FOLDER/call.json ─► definitions, arguments ─► the call ─► FOLDER/result

call.json    home: name of the module that is made of the definitions · path: for sys.path · entry: which
             of them is called · arguments: a pickle of (args, kwargs) · definitions, in order:
               ["import", name, module] · ["from", name, module, qualified name]
               ["source", name, text, file, first line, future flags] · ["value", name, pickle]
result       a pickle of {"value": …}, or of {"error": pickle or None, "kind", "text": traceback}
"""

import base64
import importlib
import inspect
import json
import linecache
import os
import pickle
import sys
import traceback
import types
from typing import Any

PROTOCOL = 4


def main(folder: str) -> None:
    with open(folder + "/call.json") as file:
        call = json.load(file)
    sys.argv = [call["home"]]
    sys.path[:] = call["path"] or [entry for entry in sys.path if entry != folder]
    try:
        home = defined(call)
        positional, named = pickle.loads(base64.b64decode(call["arguments"]))
        value = getattr(home, call["entry"])(*positional, **named)
        if inspect.iscoroutine(value):
            import asyncio

            value = asyncio.run(value)
        outcome = pickle.dumps({"value": value}, PROTOCOL)
    except BaseException as error:
        outcome = pickle.dumps(told(error), PROTOCOL)
    with open(folder + "/result.part", "wb") as file:
        file.write(outcome)
    os.rename(folder + "/result.part", folder + "/result")


def defined(call: "dict[str, Any]") -> types.ModuleType:
    """The module made of the definitions; pickles find it under its own name."""
    parents = call["home"].split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        package(".".join(parents[:depth]))
    home = sys.modules[call["home"]] = types.ModuleType(call["home"])
    space = home.__dict__
    for kind, name, *rest in call["definitions"]:
        if kind == "import":
            space[name] = importlib.import_module(rest[0])
        elif kind == "from":
            found = importlib.import_module(rest[0])
            for part in rest[1].split("."):
                found = getattr(found, part)
            space[name] = found
        elif kind == "value":
            space[name] = pickle.loads(base64.b64decode(rest[0]))
        else:
            text, file, first, flags = rest
            show(file, text, first)
            exec(compile("\n" * (first - 1) + text, file, "exec", flags, True), space)
    return home


def package(name: str) -> None:
    """A pickle of a.b.c looks for a and a.b, too: an empty one where there is none."""
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []


def show(file: str, text: str, first: int) -> None:
    """Let tracebacks quote the lines, though the file may not be here."""
    held = linecache.cache.get(file)
    lines = list(held[2]) if held and len(held) > 2 else []
    new = [line + "\n" for line in text.split("\n")]
    lines += ["\n"] * (first - 1 + len(new) - len(lines))
    lines[first - 1 : first - 1 + len(new)] = new
    linecache.cache[file] = (len(lines), None, lines, file)


def told(error: BaseException) -> "dict[str, Any]":
    """The exception as the caller gets it: itself where it can travel, its name and traceback in any case."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    kind = type(error)
    text = "".join(traceback.format_exception(kind, error, trace))
    carried = None
    try:
        if isinstance(error, Exception):
            carried = pickle.dumps(error, PROTOCOL)
            pickle.loads(carried)
    except Exception:
        carried = None
    return {"error": carried, "kind": kind.__name__, "text": text}


if __name__ == "__main__":
    main(os.path.dirname(os.path.abspath(__file__)))
