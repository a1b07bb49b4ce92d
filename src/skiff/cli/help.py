"""The pages of --help: of skiff, of a group, of a command. Drawn from the rows that `parse` obeys.

A command is listed only if its module has it: what cannot be done is not offered.
"""

from __future__ import annotations

import posix
import sys

from skiff.cli.abouts import ABOUT as ABOUTS
from skiff.cli.flags import Command
from skiff.cli.main import CANONICAL, GLOBAL_FLAGS, GROUPS, SPELLINGS, load, usage
from skiff.errors import NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skiff.cli.flags import Flag

ABOUT = "Containers, images, networks and volumes: Docker, rebuilt in Python"
COMMON = (
    "run",
    "exec",
    "ps",
    "build",
    "pull",
    "push",
    "images",
    "login",
    "logout",
    "search",
    "version",
    "info",
)
GROUP_ABOUT = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "context": "Manage contexts",
    "daemon": "Manage the engine",
    "image": "Manage images",
    "manifest": "Manage Docker image manifests and manifest lists",
    "network": "Manage networks",
    "snapshot": "Manage snapshots of containers",
    "system": "Manage skiff",
    "egress": "See where containers may go",
    "trash": "Manage what was removed",
    "volume": "Manage volumes",
}
NAME_WIDTH = 11
WIDTH = 80
NARROWEST = 24
SLOP = 5
# kinds whose value help calls otherwise
SHOWN_KINDS = {"csv": "strings", "swap": "bytes", "restart": "string"}


def show(path: str) -> int:
    """Print the page of `path`, "" for skiff itself; 1 and a sentence when there is no such command."""
    if not path:
        text = top()
    elif path in SPELLINGS:
        command = _loaded(path)
        if command is None:
            return _unknown(path)
        text = page(command, path)
    elif path in GROUPS:
        text = group(path)
    else:
        return _unknown(path)
    sys.stdout.write(text)
    return 0


def _unknown(path: str) -> int:
    print(f"unknown help topic: {path}", file=sys.stderr)
    return 1


def _loaded(path: str) -> Command | None:
    try:
        return load(path)
    except NotImplementedHere:
        return None


def _about(canonical: str, path: str) -> str:
    """One sentence; "" for a command that is not there."""
    if canonical in ABOUTS:
        return ABOUTS[canonical]
    found = _loaded(path)
    return found.about.partition("\n")[0] if found else ""


def top() -> str:
    plain = {
        spellings[0]: about
        for canonical, (_, spellings) in CANONICAL.items()
        if " " not in spellings[0] and (about := _about(canonical, spellings[0]))
    }
    for name in sorted(GROUPS - plain.keys()):
        if not _members(name):
            continue
        plain[f"{name}*"] = GROUP_ABOUT[name]
    groups = [(name[:-1], about) for name, about in sorted(plain.items()) if name.endswith("*")]
    common = [(name, plain[name]) for name in COMMON if name in plain]
    others = [(n, about) for n, about in sorted(plain.items()) if n not in COMMON and not n.endswith("*")]
    return (
        f"Usage:  skiff [OPTIONS] COMMAND\n\n{ABOUT}\n\n"
        f"Common Commands:\n{_commands(common)}\n"
        f"Management Commands:\n{_commands(groups)}\n"
        f"Commands:\n{_commands(others)}\n"
        f"Global Options:\n{options(GLOBAL_FLAGS, _columns())}\n"
        "Run 'skiff COMMAND --help' for more information on a command.\n"
    )


def _members(name: str) -> list[tuple[str, str]]:
    """(word, about) of a group's commands, each under its first spelling there."""
    members = []
    for canonical, (_, spellings) in CANONICAL.items():
        here = [spelling for spelling in spellings if spelling.startswith(f"{name} ")]
        about = _about(canonical, here[0]) if here else ""
        if about:
            members.append((here[0].partition(" ")[2], about))
    return sorted(members)


def group(name: str) -> str:
    return (
        f"Usage:  skiff {name} COMMAND\n\n{GROUP_ABOUT[name]}\n\nCommands:\n{_commands(_members(name))}\n"
        f"Run 'skiff {name} COMMAND --help' for more information on a command.\n"
    )


def _commands(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"  {name.ljust(NAME_WIDTH)} {about}\n" for name, about in rows)


def page(command: Command, path: str) -> str:
    parts = [f"Usage:  {usage(command, path)}\n\n{command.about}\n"]
    if len(command.aliases) > 1:
        parts.append("Aliases:\n  " + ", ".join(f"skiff {alias}" for alias in command.aliases) + "\n")
    shown = options(command.flags, _columns())
    if shown:
        parts.append(f"Options:\n{shown}")
    return "\n".join(parts)


def _columns() -> int:
    try:
        return posix.get_terminal_size(1).columns or WIDTH
    except OSError:
        return WIDTH


def options(flags: Sequence[Flag], columns: int) -> str:
    """Two columns: names, and what they do, wrapped to the terminal."""
    rows = []
    for name, short, kind, default, about in sorted(flags, key=lambda flag: flag[0]):
        if not about:
            continue
        head = f"  -{short}, --{name}" if short else f"      --{name}"
        if kind != "bool":
            head += f" {SHOWN_KINDS.get(kind, kind)}"
        rows.append((head, about + default_note(kind, default)))
    at = max((len(head) for head, _ in rows), default=0) + 3
    return "".join(head.ljust(at) + wrapped(about, at, columns - 1) + "\n" for head, about in rows)


def default_note(kind: str, default: object) -> str:
    if kind == "map":
        return " (default map[])"
    if kind == "stringToString":
        return " (default [])"
    if kind == "uint16":
        return f" (default {default or 0})"
    if not default:
        return ""
    if default is True:
        return " (default true)"
    if isinstance(default, str):
        return f' (default "{default}")'
    return f" (default {default})"


def wrapped(text: str, indent: int, columns: int) -> str:
    """Broken at blanks before the right edge; the last line may run over it by a few characters."""
    width = columns - indent
    lead = ""
    if width < NARROWEST:
        indent = 16
        width = columns - indent
        lead = "\n" + " " * indent
    if width < NARROWEST:
        return text.replace("\n", "\n" + " " * indent)
    lines = []
    rest = text
    while True:
        line, rest = _cut(rest, width - SLOP)
        lines.append(line.replace("\n", "\n" + " " * indent))
        if not rest:
            return lead + ("\n" + " " * indent).join(lines)


def _cut(text: str, width: int) -> tuple[str, str]:
    if width + SLOP > len(text):
        return text, ""
    at = max(text.rfind(blank, 0, width) for blank in " \t\n")
    if at <= 0:
        return text, ""
    newline = text.rfind("\n", 0, width)
    if 0 < newline < at:
        return text[:newline], text[newline + 1 :]
    return text[:at], text[at + 1 :]
