"""The pages of --help: of skiff, of a group, of a command. Drawn from the rows that `parse` obeys.

A command is listed only if its module has it: what cannot be done is not offered. What Docker has stands
where Docker has it; what it has not follows in sections of its own, below "Skiff …:".
"""

from __future__ import annotations

import os
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
    "buildx": "Docker Buildx",
    "container": "Manage containers",
    "context": "Manage contexts",
    "daemon": "Manage the engine",
    "image": "Manage images",
    "manifest": "Manage Docker image manifests and manifest lists",
    "network": "Manage networks",
    "snapshot": "Manage snapshots of containers",
    "system": "Manage Docker",
    "egress": "See where containers may go",
    "trash": "Manage what was removed",
    "volume": "Manage volumes",
}
NAME_WIDTH = 11
WIDTH = 80
NARROWEST = 24
SLOP = 5
# kinds whose value help calls otherwise
SHOWN_KINDS = {"csv": "strings", "swap": "bytes", "restart": "string", "host": "string"}
# what Docker has not
OWN_COMMANDS = frozenset(
    (
        "builder cache",
        "check",
        "completion",
        "daemon start",
        "daemon status",
        "daemon stop",
        "egress log",
        "explain",
        "fork",
        "rollback",
        "serve-registry",
        "snapshot",
        "snapshot ls",
        "snapshot rm",
        "system check",
        "system dial-stdio",
        "trash empty",
        "trash ls",
        "trash restore",
        "undo",
        "volume clone",
        "volume rollback",
        "volume snapshot",
        "volume snapshots",
        "volume unsnapshot",
        "why",
    )
)
OWN_GROUPS = frozenset(("daemon", "egress", "snapshot", "trash"))
# what Docker has in its classic builder alone
CLASSIC_FLAGS = frozenset(
    (
        "compress",
        "cpu-period",
        "cpu-quota",
        "cpu-shares",
        "cpuset-cpus",
        "cpuset-mems",
        "disable-content-trust",
        "force-rm",
        "isolation",
        "keep-storage",
        "memory",
        "memory-swap",
        "rm",
        "security-opt",
        "squash",
    )
)
OWN_FLAGS = frozenset(("compression", "dry-run", "egress", "trace", "verify", "why"))


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
    groups = {name: GROUP_ABOUT[name] for name in GROUPS - plain.keys() if _members(name)}
    own = {n: a for n, a in (plain | groups).items() if n in OWN_COMMANDS or n in OWN_GROUPS}
    common = [(name, plain[name]) for name in COMMON if name in plain]
    others = {name: about for name, about in plain.items() if name not in COMMON and name not in own}
    managing = {name: about for name, about in groups.items() if name not in own}
    return (
        f"Usage:  skiff [OPTIONS] COMMAND\n\n{ABOUT}\n\n"
        f"Common Commands:\n{_commands(common)}\n"
        f"Management Commands:\n{_commands(sorted(managing.items()))}\n"
        f"Commands:\n{_commands(sorted(others.items()))}\n"
        f"Skiff Commands:\n{_commands(sorted(own.items()))}\n"
        f"Global {_flags(global_flags())}\n"
        "Run 'skiff COMMAND --help' for more information on a command.\n"
    )


def global_flags() -> list[Flag]:
    """The global flags with the defaults that they have here and now."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    certificates = os.environ.get("DOCKER_CERT_PATH") or folder
    places = {"config": folder}
    files = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
    places |= {flag: f"{certificates}/{file}" for flag, file in files.items()}
    return [(n, s, kind, places.get(n, default), about) for n, s, kind, default, about in GLOBAL_FLAGS]


def _members(name: str) -> dict[str, list[tuple[str, str]]]:
    """(word, about) of a group's commands, each under its first spelling there.

    {"": those that Docker has, "Skiff ": those it has not}
    """
    members: dict[str, list[tuple[str, str]]] = {}
    for canonical, (_, spellings) in CANONICAL.items():
        here = [spelling for spelling in spellings if spelling.startswith(f"{name} ")]
        about = _about(canonical, here[0]) if here else ""
        if about:
            whose = "Skiff " if canonical in OWN_COMMANDS and name not in OWN_GROUPS else ""
            members.setdefault(whose, []).append((here[0].partition(" ")[2], about))
    return members


def group(name: str) -> str:
    sections = (
        f"{whose}Commands:\n{_commands(sorted(rows))}\n" for whose, rows in sorted(_members(name).items())
    )
    return (
        f"Usage:  skiff {name} COMMAND\n\n{GROUP_ABOUT[name]}\n\n{''.join(sections)}"
        f"Run 'skiff {name} COMMAND --help' for more information on a command.\n"
    )


def _commands(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f"  {name.ljust(NAME_WIDTH)} {about}\n" for name, about in rows)


def page(command: Command, path: str) -> str:
    parts = [f"Usage:  {usage(command, path)}\n\n{command.long or command.about}\n"]
    if len(command.aliases) > 1:
        parts.append("Aliases:\n  " + ", ".join(f"skiff {alias}" for alias in command.aliases) + "\n")
    canonical = SPELLINGS[path][1]
    own = frozenset() if canonical in OWN_COMMANDS else OWN_FLAGS  # all of a command of ours are alike
    if shown := _flags(
        command.flags, own | CLASSIC_FLAGS if canonical in ("build", "builder prune") else own
    ):
        parts.append(shown)
    if command.forms:
        forms = (f"  skiff {path} {tail}".rstrip() + f"\n      {about}\n" for tail, about in command.forms)
        parts.append("Skiff Usage:\n" + "".join(forms))
    return "\n".join(parts)


def _flags(flags: Sequence[Flag], own: frozenset[str] = OWN_FLAGS) -> str:
    """Docker's flags, then ours."""
    told = [flag for flag in flags if flag[0] not in own]
    if any(short == "h" for _, short, *_ in flags):  # -h is no help here: say what is
        told.append(("help", "", "bool", False, "Print usage"))
    sections = (("Options", told), ("Skiff Options", [flag for flag in flags if flag not in told]))
    shown = ((title, options(rows, _columns())) for title, rows in sections)
    return "\n".join(f"{title}:\n{rows}" for title, rows in shown if rows)


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
    if kind in ("stringToString", "ulimit"):
        return " (default [])"
    if kind == "duration" and not default:
        return " (default 0s)"
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
