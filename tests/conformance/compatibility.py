"""docs/compatibility.md, made from skiff's own tables: `python -m tests.conformance.compatibility`.

What Docker has is in data/; what skiff has is asked of the engine's routes and the command line's flags.
    done      there is code for it            refused   it is answered with a sentence that says so
    absent    skiff does not know it
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from skiff.cli import main as cli
from skiff.engine import api
from skiff.engine.api.app import Route, Routes
from skiff.errors import NotImplementedHere
from tests.conformance import built, differences, evidence, streamed

DATA: Final = Path(__file__).parent / "data"
PAGE: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"
DONE, REFUSED, ABSENT = "done", "refused", "absent"
# Flags that the command line knows only in order to say why not.
REFUSED_FLAGS: Final = {
    command: frozenset(("--gpus", "--isolation", "--use-api-socket")) for command in ("run", "create")
}
REFUSING_ROOM: Final = "skiff.engine.api.absent"
ANSWERED_ANYWAY: Final = frozenset(("AbsentRoutes.no_plugins",))
# Docker's global flags that are spelled without a command.
TOP: Final = "docker"


def endpoints() -> Iterator[tuple[str, str]]:
    """(method, path) of the Engine API, as its reference lists them."""
    for line in _lines("endpoints.txt"):
        method, path = line.split(" ")
        yield method, path


def commands() -> Iterator[tuple[str, dict[str, str]]]:
    """(docker's command, its flags: name → short form or "")."""
    for line in _lines("commands.txt"):
        command, _, flags = line.partition(":")
        parts = (word.partition(",-") for word in flags.split())
        yield command, {name: short for name, _, short in parts}


def parameters() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(method, path, its parameters: of the query, the body, the headers) of the endpoints that skiff has."""
    for line in _lines("parameters.txt"):
        endpoint, _, names = line.partition(": ")
        method, path = endpoint.split(" ")
        yield method, path, tuple(names.split())


def parameters_shown() -> Iterator[tuple[str, str, list[str]]]:
    """(endpoint, parameter, its tests)."""
    for method, path, names in parameters():
        for name in names:
            yield f"{method} {path}", name, evidence.of_parameter(method, path, name)


def flags_shown() -> Iterator[tuple[str, str, str, list[str]]]:
    """(command, flag, its state, its tests), each command by one of its spellings."""
    facts = dict(commands())
    seen = set()
    for command, _, flags in command_states():
        words = command.removeprefix(TOP).strip()
        known = cli.SPELLINGS.get(words) if words else (TOP, "")
        if known is None or known in seen:
            continue
        seen.add(known)
        for flag, state in flags.items():
            yield command, flag, state, evidence.of_flag(words, flag, facts[command][flag])


def routes() -> Iterator[Route]:
    """Every route of the door, without an engine behind it: a route only names its handler."""
    for module in pkgutil.iter_modules(api.__path__):
        name = f"{api.__name__}.{module.name}"
        for _, room in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if room.__module__ == name and hasattr(room, "routes") and room is not Routes:
                bare: Routes = object.__new__(room)
                yield from bare.routes()


def endpoint_states() -> Iterator[tuple[str, str, str]]:
    """(method, path, state)."""
    known = {(route.method, _shape(route.pattern)): _state(route) for route in routes()}
    for method, path in endpoints():
        yield method, path, known.get((method, _shape(path)), ABSENT)


def command_states() -> Iterator[tuple[str, str, dict[str, str]]]:
    """(command, its state, flag → state)."""
    for command, flags in commands():
        words = command.removeprefix(TOP).strip()
        own = _own_flags(words)
        if own is None:
            state = DONE if words in cli.GROUPS else ABSENT
            yield command, state, dict.fromkeys(flags, state)
            continue
        refused = REFUSED_FLAGS.get(words.removeprefix("container "), frozenset())
        yield (
            command,
            DONE,
            {flag: REFUSED if flag in refused else DONE if flag in own else ABSENT for flag in flags},
        )


def page() -> str:
    """The whole file."""
    of_endpoints, of_commands = list(endpoint_states()), list(command_states())
    lines = [
        "# Compatibility",
        "",
        "Made by `make docs` from skiff's own tables; do not edit.",
        "",
        "*done*: there is code for it. *refused*: answered with a sentence that says so, never accepted and",
        "ignored. *absent*: skiff does not know it. *Tests*: below `tests/`, some of those that show it;",
        "`differential/` are stories of `tests/conformance/differential`, compared with Docker's answers.",
        "",
        "## Engine API 1.51",
        "",
        _tally([state for _, _, state in of_endpoints], "endpoints"),
        "",
        "| Endpoint | State | Tests |",
        "|---|---|---|",
        *(
            f"| `{method} {path}` | {state} | {', '.join(evidence.of_endpoint(method, path))} |"
            for method, path, state in of_endpoints
        ),
        "",
        "## Command line (docker 28.5)",
        "",
        _tally([state for _, state, _ in of_commands], "commands"),
        _tally([state for _, _, flags in of_commands for state in flags.values()], "flags"),
        "",
        "| Command | State | Flags that are not done | Tests |",
        "|---|---|---|---|",
        *(_row(command, state, flags) for command, state, flags in of_commands),
        "",
        "## Parameters and flags",
        "",
        "Each with its tests. What skiff has is honoured, or refused as the test says.",
        "",
        "| Endpoint | Parameter | Tests |",
        "|---|---|---|",
        *(f"| `{point}` | `{name}` | {', '.join(shown)} |" for point, name, shown in parameters_shown()),
        "",
        "| Command | Flag | State | Tests |",
        "|---|---|---|---|",
        *(
            f"| `{command}` | `{flag}` | {state} | {', '.join(shown)} |"
            for command, flag, state, shown in flags_shown()
        ),
        "",
        "## Dockerfiles",
        "",
        f"{len(built.cases())} Dockerfiles (tests/conformance/builds) give the trees, configurations,",
        "histories and refusals that Docker's BuildKit gives, but for this:",
        "",
        *(f"- {reason}" for reason in (*differences.EVERYWHERE, *differences.KNOWN.values())),
        "",
        f"What `POST /build` says of {len(streamed.cases())} failing and odd Dockerfiles",
        "(tests/conformance/streams) is what Docker's classic builder says. The place of an error stands in",
        "a field `detail` beside its message; a fault of the client's is a 4xx where Docker says 500. And:",
        "",
        *(f"- {reason}" for reason in dict.fromkeys(differences.STREAMS.values())),
        "",
    ]
    return "\n".join(lines)


def _row(command: str, state: str, flags: dict[str, str]) -> str:
    missing = [
        f"`{flag}`" + ("" if its == ABSENT else f" ({its})")
        for flag, its in flags.items()
        if its != DONE and state == DONE
    ]
    shown = evidence.of_command(command.removeprefix(TOP).strip())
    return f"| `{command}` | {state} | {', '.join(missing)} | {', '.join(shown)} |".replace("|  |", "| |")


def _tally(states: list[str], what: str) -> str:
    counts = (f"{states.count(state)} {state}" for state in (DONE, REFUSED, ABSENT))
    return f"{len(states)} {what}: {', '.join(counts)}.  "


def _own_flags(words: str) -> set[str] | None:
    """The flags of our command, long and short; None when there is no such command."""
    if not words:
        rows = cli.GLOBAL_FLAGS
    elif words in cli.SPELLINGS:
        try:
            rows = tuple(cli.load(words).flags)
        except NotImplementedHere:
            return None
    else:
        return None
    return {f"--{row[0]}" for row in rows} | {f"-{row[1]}" for row in rows if row[1]}


def _state(route: Route) -> str:
    if route.handler.__module__ != REFUSING_ROOM or route.handler.__qualname__ in ANSWERED_ANYWAY:
        return DONE
    return REFUSED


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def _lines(name: str) -> Iterator[str]:
    for line in (DATA / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line


if __name__ == "__main__":
    sys.stdout.write(page())
