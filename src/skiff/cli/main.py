"""The command line's door: global flags, then one command. It loads only the module of that command.

A command module has `COMMANDS: dict[str, Command]`, keyed by the second word of `SPELLINGS` below.
This path imports C modules and our own lean ones only (docs/adr/0004-command-line-start.md).
"""

from __future__ import annotations

import posix
import sys

from skiff.cli.flags import ArgumentError, Command, FlagError, HelpWanted, parse, parse_flags
from skiff.cli.session import Session
from skiff.errors import NotImplementedHere, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from skiff.cli.flags import Flag, Parsed

GLOBAL_FLAGS: tuple[Flag, ...] = (
    ("config", "", "string", "", "Location of client config files"),
    (
        "context",
        "c",
        "string",
        "",
        "Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default "
        'context set with "skiff context use")',
    ),
    ("debug", "D", "bool", False, "Enable debug mode"),
    ("host", "H", "host", [], "Daemon socket to connect to"),
    (
        "log-level",
        "l",
        "string",
        "info",
        'Set the logging level ("debug", "info", "warn", "error", "fatal")',
    ),
    ("tls", "", "bool", False, "Use TLS; implied by --tlsverify"),
    ("tlscacert", "", "string", "", "Trust certs signed only by this CA"),
    ("tlscert", "", "string", "", "Path to TLS certificate file"),
    ("tlskey", "", "string", "", "Path to TLS key file"),
    ("tlsverify", "", "bool", False, "Use TLS and verify the remote"),
    ("trace", "", "bool", False, "Show what the engine did for the command, step by step, on stderr"),
    ("version", "v", "bool", False, "Print version information and quit"),
)

LOG_LEVELS = ("panic", "fatal", "error", "warn", "warning", "info", "debug", "trace")
# canonical command → (module in skiff.cli, every spelling). The key is what the module's COMMANDS holds.
CANONICAL: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("run", ("run", "container run")),
    "create": ("run", ("create", "container create")),
    "start": ("run", ("start", "container start")),
    "exec": ("exec", ("exec", "container exec")),
    "attach": ("container_io", ("attach", "container attach")),
    "logs": ("container_io", ("logs", "container logs")),
    "wait": ("container_io", ("wait", "container wait")),
    "top": ("container_io", ("top", "container top")),
    "stats": ("stats", ("stats", "container stats")),
    "cp": ("container_files", ("cp", "container cp")),
    "diff": ("container_files", ("diff", "container diff")),
    "export": ("container_files", ("export", "container export")),
    "ps": ("container_list", ("ps", "container ls", "container ps", "container list")),
    "stop": ("container", ("stop", "container stop")),
    "restart": ("container", ("restart", "container restart")),
    "kill": ("container", ("kill", "container kill")),
    "pause": ("container", ("pause", "container pause")),
    "unpause": ("container", ("unpause", "container unpause")),
    "rm": ("container", ("rm", "container rm", "container remove")),
    "rename": ("container", ("rename", "container rename")),
    "port": ("container", ("port", "container port")),
    "update": ("container", ("update", "container update")),
    "container prune": ("container", ("container prune",)),
    "container inspect": ("inspect", ("container inspect",)),
    "commit": ("image", ("commit", "container commit")),
    "images": ("image_list", ("images", "image ls", "image list")),
    "pull": ("image", ("pull", "image pull")),
    "push": ("image", ("push", "image push")),
    "rmi": ("image", ("rmi", "image rm", "image remove")),
    "tag": ("image", ("tag", "image tag")),
    "history": ("image_history", ("history", "image history")),
    "save": ("image_archive", ("save", "image save")),
    "load": ("image_archive", ("load", "image load")),
    "import": ("image_archive", ("import", "image import")),
    "image prune": ("image", ("image prune",)),
    "image inspect": ("inspect", ("image inspect",)),
    "search": ("registry", ("search",)),
    "manifest inspect": ("registry", ("manifest inspect",)),
    "serve-registry": ("registry", ("serve-registry",)),
    "build": ("build", ("build", "image build", "builder build", "buildx build", "buildx b")),
    "network create": ("network", ("network create",)),
    "network connect": ("network", ("network connect",)),
    "network disconnect": ("network", ("network disconnect",)),
    "network inspect": ("inspect", ("network inspect",)),
    "network ls": ("network", ("network ls", "network list")),
    "network prune": ("network", ("network prune",)),
    "network rm": ("network", ("network rm", "network remove")),
    "volume create": ("volume", ("volume create",)),
    "volume inspect": ("inspect", ("volume inspect",)),
    "volume ls": ("volume", ("volume ls", "volume list")),
    "volume prune": ("volume", ("volume prune",)),
    "volume rm": ("volume", ("volume rm", "volume remove")),
    "version": ("version", ("version",)),
    "info": ("info", ("info", "system info")),
    "events": ("system", ("events", "system events")),
    "inspect": ("inspect", ("inspect",)),
    "system df": ("system", ("system df",)),
    "system prune": ("system", ("system prune", "prune")),
    "system dial-stdio": ("dialling", ("system dial-stdio",)),
    "builder prune": ("builder", ("builder prune", "buildx prune")),
    "builder cache": ("builder", ("builder cache",)),
    "egress log": ("egress", ("egress log",)),
    "undo": ("trash", ("undo",)),
    "trash ls": ("trash", ("trash ls", "trash list")),
    "trash restore": ("trash", ("trash restore",)),
    "trash empty": ("trash", ("trash empty",)),
    "system check": ("trash", ("system check",)),
    "snapshot": ("branches", ("snapshot",)),
    "snapshot ls": ("branches", ("snapshot ls",)),
    "snapshot rm": ("branches", ("snapshot rm",)),
    "fork": ("branches", ("fork",)),
    "rollback": ("branches", ("rollback",)),
    "volume snapshot": ("branches", ("volume snapshot",)),
    "volume snapshots": ("branches", ("volume snapshots",)),
    "volume unsnapshot": ("branches", ("volume unsnapshot",)),
    "volume clone": ("branches", ("volume clone",)),
    "volume rollback": ("branches", ("volume rollback",)),
    "login": ("login", ("login",)),
    "logout": ("login", ("logout",)),
    "context create": ("context", ("context create",)),
    "context export": ("context", ("context export",)),
    "context import": ("context", ("context import",)),
    "context inspect": ("context", ("context inspect",)),
    "context ls": ("context", ("context ls", "context list")),
    "context rm": ("context", ("context rm", "context remove")),
    "context show": ("context", ("context show",)),
    "context update": ("context", ("context update",)),
    "context use": ("context", ("context use",)),
    "check": ("check", ("check",)),
    "explain": ("explain", ("explain",)),
    "why": ("why", ("why",)),
    "daemon start": ("daemon", ("daemon start",)),
    "daemon stop": ("daemon", ("daemon stop",)),
    "daemon status": ("daemon", ("daemon status",)),
    "completion": ("completion", ("completion",)),
}
SPELLINGS = {
    spelling: (module, key) for key, (module, spellings) in CANONICAL.items() for spelling in spellings
}
GROUPS = {spelling.split(" ", 1)[0] for spelling in SPELLINGS if " " in spelling}


def main(argv: Sequence[str]) -> int:
    """Run one command line (without argv[0]); gives the exit code."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _replace_closed()
    try:
        return _main(list(argv))
    except BrokenPipeError:
        return -13
    except KeyboardInterrupt:
        return -2


def _replace_closed() -> None:
    """Streams that we were started without lead nowhere."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open("/dev/null", "r" if name == "stdin" else "w", encoding="utf-8"))


def settle(code: int) -> int:
    """Flush what was written; the exit code that comes of it. A negative one is a signal to die by, so that
    the shell sees what happened.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = -13
    try:
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    return code


def leave(code: int) -> NoReturn:
    """Exit at once: the tear-down of an interpreter costs as much as half a `ps`. code: see `settle`."""
    if code < 0:
        import _signal  # type: ignore[import-not-found]

        _signal.signal(-code, _signal.SIG_DFL)
        posix.kill(posix.getpid(), -code)
    posix._exit(code & 0xFF)


def _main(argv: list[str]) -> int:
    try:
        top = parse_flags(GLOBAL_FLAGS, argv, interspersed=False)
    except HelpWanted:
        return _help("")
    except FlagError as error:
        return _usage_error(str(error), "skiff [OPTIONS] COMMAND [ARG...]", "skiff", code=125)
    if wrong := _wrong_globals(top):
        return wrong
    words = top.args
    if top["version"]:
        from skiff import __version__

        print(f"skiff version {__version__}")
        return 0
    if not words or words[0] == "help":
        return _help(" ".join(words[1:]))
    session = Session(top)
    if not top["trace"]:
        return run_command(session, words)
    from skiff.cli.explain import traced

    try:
        return traced(session, lambda: run_command(session, words), sys.stderr)
    except SkiffError as error:
        print(error, file=sys.stderr)
        return 1


def _wrong_globals(top: Parsed) -> int:
    """The exit code of a global flag that cannot be, 0 for none."""
    if len(top["host"]) > 1:
        message = f'invalid argument "{top["host"][1]}" for "-H, --host" flag: specify only one -H'
        return _usage_error(message, "skiff [OPTIONS] COMMAND [ARG...]", "skiff", code=125)
    if top["log-level"].lower() not in LOG_LEVELS:
        print(f"Unable to parse logging level: {top['log-level']}", file=sys.stderr)
        return 1
    return 0


def run_command(session: Session, words: list[str]) -> int:
    """One command, spelled in full; gives its exit code."""
    path, rest = _spelling(words)
    if path not in SPELLINGS:
        return _unknown(words)
    return dispatch(session, path, rest)


def _spelling(words: list[str]) -> tuple[str, list[str]]:
    if words[0] in GROUPS and len(words) > 1 and f"{words[0]} {words[1]}" in SPELLINGS:
        return f"{words[0]} {words[1]}", words[2:]
    return words[0], words[1:]


def load(path: str) -> Command:
    """The command spelled so, from its module. Raises NotImplementedHere."""
    module_name, key = SPELLINGS[path]
    name = f"skiff.cli.{module_name}"
    try:
        __import__(name)
        command: Command = sys.modules[name].COMMANDS[key]
    except (ModuleNotFoundError, KeyError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != name:
            raise
        raise NotImplementedHere(f"skiff: 'skiff {path}' is not implemented yet") from error
    return command


def dispatch(session: Session, path: str, argv: Sequence[str]) -> int:
    try:
        command = load(path)
    except NotImplementedHere as error:
        print(error, file=sys.stderr)
        return 1
    try:
        parsed = parse(command, path, argv)
    except HelpWanted:
        return _help(path)
    except FlagError as error:
        return _usage_error(str(error), usage(command, path), f"skiff {path}", code=125)
    except ArgumentError as error:
        word = "See" if "at least" in str(error) and "at most" not in str(error) else "Run"
        return _usage_error(f"skiff: {error}", usage(command, path), f"skiff {path}", code=1, word=word)
    try:
        return command.act(session, parsed)
    except SkiffError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return command.exit_code
    finally:
        session.close()


def usage(command: Command, path: str) -> str:
    return f"skiff {path} {command.tail}".rstrip()


def _usage_error(message: str, usage_line: str, path: str, *, code: int, word: str = "Run") -> int:
    print(
        f"{message}\n\nUsage:  {usage_line}\n\n{word} '{path} --help' for more information", file=sys.stderr
    )
    return code


def _help(path: str) -> int:
    from skiff.cli.help import show

    code: int = show(path)
    return code


def _unknown(words: list[str]) -> int:
    first = words[0]
    if first in GROUPS:
        if words[1:2] in (["--help"], ["-h"]) or "--help" in words:
            return _help(first)
        if len(words) == 1:  # nothing was asked for: that is not an answer on stdout
            from skiff.cli.help import group

            sys.stderr.write(group(first))
            return 0
        group_usage = "skiff volume COMMAND" if first == "volume" else f"skiff {first}"  # as Docker has it
        for word in words[1:]:
            if word in ("-", "--") or not word.startswith("-"):
                continue
            kind = "unknown flag" if word.startswith("--") else "unknown shorthand flag"
            shown = word if word.startswith("--") else f"{word[1]!r} in {word}"
            return _usage_error(f"{kind}: {shown}", group_usage, f"skiff {first}", code=125)
        unknown = f"{first} {words[1]}"
    else:
        unknown = first
    near = _near(unknown)
    hint = "".join(f"\n\t{name}" for name in near)
    message = f"skiff: unknown command: skiff {unknown}\n\n"
    if near:
        message += f"Did you mean this?{hint}\n\n"
    if first in GROUPS:
        message += f"Usage:  {group_usage}\n\nRun 'skiff {first} --help' for more information"
    else:
        message += "Run 'skiff --help' for more information"
    print(message, file=sys.stderr)
    return 1


def _near(word: str) -> list[str]:
    """Commands at most two edits away, nearest first, or that begin so."""
    scored = []
    for spelling in sorted(SPELLINGS.keys() | GROUPS):
        distance = _edits(word, spelling)
        if distance <= (2 if len(word) > 4 else 1) or spelling.startswith(word):
            scored.append((distance, spelling))
    return [spelling for _, spelling in sorted(scored)[:3]]


def _edits(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
