"""skiff why CONTAINER: why it ended, does not start or is unhealthy, and what to do. Rules: reasons.py."""

from __future__ import annotations

import posix
import sys
import time

from skiff.cli import human
from skiff.cli.case import Case, Reason
from skiff.cli.flags import Command
from skiff.cli.reasons import afterwards, headline, why
from skiff.client.connection import EngineError
from skiff.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session
    from skiff.client.engine import EngineClient

    Json = dict[str, Any]

NOT_FOUND = 404
GONE = "0001-01-01T00:00:00Z"
TOLD = {"create", "start", "restart", "kill", "stop", "die", "oom", "pause", "unpause", "destroy"}
WIDTH = 100
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def run(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    name = asked.args[0]
    try:
        found = engine.container(name)
    except EngineError as error:
        if error.status != NOT_FOUND:
            raise
        return _gone(engine, name, error)
    case = Case(
        found,
        _events(engine, found["Id"]),
        _words(engine, found, asked["tail"]),
        built_for=_built_for(engine, found),
        machine=_machine(engine),
    )
    coloured = sys.stdout.isatty() and not session.env("NO_COLOR")
    columns = _columns(sys.stdout)
    sys.stdout.writelines(page(case, why(case), now=time.time(), columns=columns, coloured=coloured))
    return 0


def page(
    case: Case, reason: Reason, *, now: float, columns: int = WIDTH, coloured: bool = False
) -> Iterator[str]:
    """The lines that are printed."""
    bold, dim, plain = (BOLD, DIM, PLAIN) if coloured else ("", "", "")
    ended = case.state.get("FinishedAt") or GONE
    ago = human.ago(human.instant(ended)[0], now).lower() if ended != GONE else ""
    yield f"{bold}{headline(case, ago)}{plain}\n"
    said = [*reason.says.split("\n"), *filter(None, [afterwards(case)])]
    for paragraph in said:
        yield from _wrapped(paragraph, columns)
    happened = [event for event in case.events if event["Action"] in TOLD][-6:]
    if happened:
        yield f"\n{bold}What happened{plain}\n"
        for event in happened:
            yield f"  {_clock(event['time'])}  {_act(event)}\n"
    if case.words:
        yield f"\n{bold}Its last words{plain}\n"
        for line in case.words:
            yield f"  {dim}{line}{plain}\n"
    if reason.do:
        yield f"\n{bold}What to do{plain}\n"
        for line in reason.do:
            yield from _wrapped(line, columns, mark="- ")


def _act(event: Json) -> str:
    attributes = event["Actor"]["Attributes"]
    if event["Action"] == "kill":
        return f"kill, signal {attributes.get('signal', '?')}"
    if event["Action"] == "die":
        return f"die, code {attributes.get('exitCode', '?')} after {attributes.get('execDuration', '?')} s"
    return str(event["Action"])


def _wrapped(text: str, columns: int, mark: str = "") -> Iterator[str]:
    """Cut at spaces; what goes on below a mark is set in."""
    line, prefix = mark, " " * len(mark)
    for word in text.split(" "):
        if len(line) + len(word) + 1 > columns and line.strip():
            yield line.rstrip() + "\n"
            line = prefix
        line += f"{word} "
    yield line.rstrip() + "\n"


def _gone(engine: EngineClient, name: str, error: EngineError) -> int:
    """A container that was removed: the engine's recent events may still know it."""
    now = time.time()
    happened = [
        event
        for event in engine.events(since="0", until=f"{now:.3f}", filters={"type": ["container"]})
        if name in (event["Actor"]["Attributes"].get("name"), event["Actor"]["ID"], event["Actor"]["ID"][:12])
    ]
    if not any(event["Action"] == "destroy" for event in happened):
        raise NotFound(str(error))
    print(f"{name} is gone: it was removed.\n\nWhat happened")
    for event in [event for event in happened if event["Action"] in TOLD][-8:]:
        print(f"  {_clock(event['time'])}  {_act(event)}")
    kept = [entry for entry in _trash(engine) if entry.get("Name") == name]
    if kept:
        print(
            f"\nWhat to do\n- It is in the trash: skiff trash restore {kept[-1]['Id']}, then skiff why {name}"
        )
    else:
        print("\nWhat to do\n- Run it without --rm: its record and its last words stay then.")
    return 0


def _trash(engine: EngineClient) -> list[Json]:
    try:
        return list(engine.trash()["Entries"])
    except EngineError:
        return []  # another engine has none


def _events(engine: EngineClient, id: str) -> list[Json]:
    filters = {"type": ["container"], "container": [id]}
    return list(engine.events(since="0", until=f"{time.time():.3f}", filters=filters))


def _words(engine: EngineClient, found: Json, tail: int) -> list[str]:
    """The last lines of its log; none when its driver keeps none."""
    from skiff.docker.stdcopy import split

    if not tail:
        return []
    try:
        data = engine.container_logs(found["Id"], tail=str(tail)).read()
    except EngineError:
        return []
    if not (found.get("Config") or {}).get("Tty"):
        data = b"".join(payload for _, payload in split(data)[0])
    text = data.decode("utf-8", "replace")
    return [_printable(line) for line in text.splitlines()][-tail:]


def _printable(line: str) -> str:
    """No escape sequences: the last words are read, not obeyed."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "·" for letter in line)


def _built_for(engine: EngineClient, found: Json) -> str:
    try:
        return str(engine.image(found["Image"]).get("Architecture") or "")
    except EngineError:
        return ""  # its image was removed meanwhile


def _machine(engine: EngineClient) -> str:
    machine = str(engine.version().get("Arch") or posix.uname().machine)
    return ARCHITECTURES.get(machine, machine)


def _clock(instant: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))


def _columns(out: TextIO) -> int:
    try:
        return min(posix.get_terminal_size(out.fileno()).columns, WIDTH) if out.isatty() else WIDTH
    except OSError:
        return WIDTH


COMMANDS = {
    "why": Command(
        "[OPTIONS] CONTAINER",
        """Say why a container ended or does not start, and what to do

From its record, its events and the last lines of its log: exit code, signal, memory, a missing or foreign
program, its health check, who stopped it, what its restart policy makes of it.

  skiff why web
  skiff why -n 30 web     # more of its last words""",
        run,
        (("tail", "n", "int", 8, "Number of lines of its log to show"),),
        least=1,
        most=1,
    )
}
