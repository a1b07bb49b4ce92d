"""skiff explain COMMAND…, and --trace: what the engine did for one command, step by step, in microseconds.

The requests of the command carry a name; afterwards the engine is asked for all that it did under it.
"""

from __future__ import annotations

import posix
import sys

from skiff.cli.flags import Command
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

HEADER = "X-Skiff-Trace"
NARROWEST = 40
FORKED = ("init", "exec")
WATCHED = """init and exec are forked here, so that each call can be watched.
Else they are mostly spawned: the same calls as a program, in less time.
"""
NOT_FOUND = 404
DIM, PLAIN, RED = "\x1b[2m", "\x1b[0m", "\x1b[31m"
MICRO = 1000.0


def explain(session: Session, asked: Parsed) -> int:
    from skiff.cli.main import run_command

    if asked.args[0] in ("explain", "daemon"):
        raise InvalidParameter(f"skiff explain: {asked.args[0]} is no command of the engine's")
    return traced(session, lambda: run_command(session, asked.args), sys.stdout, chrome=asked["chrome"])


def traced(session: Session, command: Callable[[], int], out: TextIO, *, chrome: str = "") -> int:
    """Run it, show what was done for it; gives its own exit code."""
    name = posix.urandom(8).hex()
    session.engine().connection.user_headers[HEADER] = name
    try:
        code = command()
    finally:
        session.engine().connection.user_headers.pop(HEADER, None)
    sys.stdout.flush()
    try:
        found = session.engine().trace(name)
    except EngineError as error:
        if error.status != NOT_FOUND:
            raise
        no_traces = name not in error.message
        nothing = "this engine keeps no traces" if no_traces else "the command asked nothing of the engine"
        raise NotFound(f"skiff explain: {nothing}") from None
    if chrome:
        from skiff.client import json_text

        with open(chrome, "wb") as file:
            file.write(json_text.encode(chrome_trace(found)))
    out.writelines(drawn(found, columns=_columns(out), coloured=_coloured(session, out)))
    out.flush()
    return code


def drawn(found: Json, *, columns: int, coloured: bool) -> Iterator[str]:
    """The lines of the timeline. columns: 0 for no limit.

    at ms      took µs  process   step                                  command that does the same
    """
    steps = found["Steps"]
    yield f"{found['Took'] / MICRO:.3f} ms, {len(steps)} step{'' if len(steps) == 1 else 's'}\n"
    if not steps:
        return
    titles = [("  " * step["Depth"]) + step["Title"] for step in steps]
    left = 31  # columns before the title
    room = max(columns - left, NARROWEST) if columns else 0
    width = min(max(len(title) for title in titles), room // 2 if room else 60)
    yield f"{'AT ms':>9} {'TOOK µs':>10}  {'PROCESS':<8} {'STEP':<{width}} SHELL".rstrip() + "\n"
    for step, title in zip(steps, titles, strict=True):
        head = f"{step['Start'] / MICRO:>9.3f} {step['Took']:>10.1f}  {step['Process']:<8} "
        shell = f"$ {step['Shell']}" if step["Shell"] else ""
        if step["Error"]:
            shell = f"✗ {step['Error']}  {shell}".rstrip()
        if room:
            title = _cut(title, width if shell else room)
            shell = _cut(shell, room - max(len(title), width) - 1)
        tail = f" {shell}" if shell else ""
        if coloured and tail:
            tail = f"{RED if step['Error'] else DIM}{tail}{PLAIN}"
        yield f"{head}{title:<{width}}{tail}".rstrip() + "\n"
    if any(step["Process"] in FORKED for step in steps):
        yield WATCHED


def chrome_trace(found: Json) -> Json:
    """The timeline as chrome://tracing, Perfetto and speedscope read it: Trace Event Format, JSON object."""
    events: list[Json] = []
    seen: dict[tuple[str, int], int] = {}
    row = 0
    for step in found["Steps"]:
        key = (step["Process"], step["Pid"])
        if key not in seen:
            seen[key] = len(seen) + 1
            events.append(_named(seen[key], f"{step['Process']} {step['Pid']}"))
        detail = {"shell": step["Shell"]} if step["Shell"] else {}
        if step["Error"]:
            detail["error"] = step["Error"]
        if not step["Depth"] and step["Process"] == "engine":
            row += 1  # requests go on side by side
        events.append(
            {
                "name": step["Title"],
                "ph": "X",
                "ts": step["Start"],
                "dur": step["Took"],
                "pid": seen[key],
                "tid": row,
                "cat": step["Process"],
                "args": detail,
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _named(number: int, name: str) -> Json:
    return {"name": "process_name", "ph": "M", "pid": number, "tid": 1, "args": {"name": name}}


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return text[: width - 1] + "…" if width > 1 else ""


def _columns(out: TextIO) -> int:
    try:
        return posix.get_terminal_size(out.fileno()).columns if out.isatty() else 0
    except OSError:
        return 0


def _coloured(session: Session, out: TextIO) -> bool:
    return out.isatty() and not session.env("NO_COLOR")


COMMANDS = {
    "explain": Command(
        "[OPTIONS] COMMAND [ARG...]",
        """Run a command and show what the engine did for it, step by step

Each namespace, mount, control group write, netlink message, nft element, system call filter, layer and file,
with its microseconds and the shell command that does the same. The command runs as usual and its exit code
is ours. `skiff --trace COMMAND` shows the same on stderr.

  skiff explain run --rm --network none busybox true
  skiff explain --chrome trace.json exec web true     # for https://ui.perfetto.dev""",
        explain,
        (("chrome", "", "string", "", "Also write a trace for chrome://tracing or Perfetto to this file"),),
        least=1,
        interspersed=False,
    )
}
