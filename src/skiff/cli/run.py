"""`run`, `create` and `start`: the fewest round trips that keep the order attach, wait, start.

connection 1:  create ──► wait (its head at once, its body at the exit) ───────────────► exit code
connection 2:                attach ──────────────► the container's streams
connection 3:                          start
"""

from __future__ import annotations

import posix
import sys

from skiff.cli import terminal
from skiff.cli.attachment import Attachment, refuse_without_terminal
from skiff.cli.flags import Command
from skiff.cli.outcome import refused, start_code
from skiff.cli.pulling import pull, with_tag
from skiff.cli.run_flag_rows import CREATE_FLAGS, RUN_FLAGS
from skiff.cli.run_flags import PARSERS, RunError, RunWish, wish
from skiff.cli.run_values import Surroundings
from skiff.client.config_file import home
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

# what the engine says of an image that a pull may bring: perhaps its index has one of the platform wanted
_ABSENT = ("no such image", "does not match the specified platform")


def run(session: Session, flags: Parsed) -> int:
    detach = flags["detach"]
    if detach and flags["attach"]:
        session.err("conflicting options: cannot specify both --attach and --detach")
        return 1
    try:
        asked = _asked(session, flags, detach=detach)
        keys = terminal.detach_keys(_keys(session, flags))
        body = asked.body
        if not detach and body["AttachStdin"] and body["Tty"]:
            refuse_without_terminal()
        id = _create(session, flags, asked)
    except terminal.NoTerminal as error:
        session.err(str(error))
        return 1
    except SkiffError as error:
        return refused("run", str(error))
    engine = session.engine()
    if detach:
        try:
            engine.start_container(id)
        except EngineError as error:
            return refused("run", str(error), code=start_code(error.message))
        print(id)
        return 0
    attached = any(body[f"Attach{stream}"] for stream in ("Stdin", "Stdout", "Stderr"))
    attachment = Attachment(
        session,
        id,
        tty=body["Tty"],
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        keys=keys,
        keys_text=flags["detach-keys"],
        proxy_signals=flags["sig-proxy"] and not body["Tty"],
    )
    with attachment:
        waiting = engine.wait_container(id, condition="removed" if flags["rm"] else "next-exit")
        if attached:
            attachment.open()
        try:
            engine.start_container(id)
        except EngineError as error:
            attachment.close()
            if flags["rm"]:
                waiting.read()  # the engine removes what never ran; leave nothing behind that is still going
            return refused("run", str(error), code=start_code(error.message))
        attachment.resize()
        if attachment.pump() == terminal.DETACHED:
            waiting.close()
            return 0
        return attachment.exit_code(waiting)


def create(session: Session, flags: Parsed) -> int:
    try:
        asked = _asked(session, flags, detach=False)
    except SkiffError as error:
        return refused("create", str(error))
    print(_create(session, flags, asked))
    return 0


def start(session: Session, flags: Parsed) -> int:
    if not (flags["attach"] or flags["interactive"]):
        return _start_all(session, flags)
    if len(flags.args) > 1:
        raise InvalidParameter("you cannot start and attach multiple containers at once")
    keys = terminal.detach_keys(_keys(session, flags))
    engine = session.engine()
    found = engine.container(flags.args[0])
    id, config = found["Id"], found["Config"]
    attachment = Attachment(
        session,
        id,
        tty=config["Tty"],
        stdin=flags["interactive"] and bool(config["OpenStdin"]),
        stdout=True,
        stderr=True,
        keys=keys,
        keys_text=flags["detach-keys"],
        proxy_signals=flags["attach"] and not config["Tty"],
    )
    with attachment:
        removes = bool((found.get("HostConfig") or {}).get("AutoRemove"))
        waiting = engine.wait_container(id, condition="removed" if removes else "next-exit")
        attachment.open()
        try:
            engine.start_container(id)
        except EngineError as error:
            attachment.close()
            session.err(str(error))
            return 1
        attachment.resize()
        if attachment.pump() == terminal.DETACHED:
            waiting.close()
            return 0
        return attachment.exit_code(waiting)


def _start_all(session: Session, flags: Parsed) -> int:
    failed = []
    for name in flags.args:
        try:
            session.engine().start_container(name)
        except EngineError as error:
            session.err(str(error))
            failed.append(name)
        else:
            print(name, flush=True)
    if failed:
        session.err(f"Error: failed to start containers: {', '.join(failed)}")
    return 1 if failed else 0


def _asked(session: Session, flags: Parsed, *, detach: bool) -> RunWish:
    environment = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in session.environment.items()
    }
    around = Surroundings(cwd=posix.getcwd(), home=home(session.env), environment=environment, read=_read)
    asked = wish(flags, around, detach=detach)
    endpoint = session.endpoint()
    held = asked.body["Env"] or []
    names = {variable.partition("=")[0] for variable in held}
    proxies = [f"{k}={v}" for k, v in session.config().proxies(endpoint.url).items() if k not in names]
    asked.body["Env"] = held + proxies or None
    size = terminal.window_size(1)
    if size is not None:
        asked.body["HostConfig"]["ConsoleSize"] = list(size)
    return asked


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _keys(session: Session, flags: Parsed) -> str:
    return flags["detach-keys"] or session.config().detach_keys or terminal.DEFAULT_DETACH_KEYS


def _create(session: Session, flags: Parsed, asked: RunWish) -> str:
    """The new container's id; its image is pulled when that was asked for. Raises SkiffError."""
    cidfile = flags["cidfile"]
    if cidfile and posix.access(cidfile, posix.F_OK):
        raise RunError(
            f"container ID file found, make sure the other container isn't running or delete {cidfile}"
        )
    engine = session.engine()
    quiet = flags["quiet"]
    if flags["pull"] == "always":
        pull(session, asked.image, platform=asked.platform, quiet=quiet)
    try:
        made = engine.create_container(asked.body, name=asked.name, platform=asked.platform)
    except EngineError as error:
        absent = any(words in error.message.lower() for words in _ABSENT)
        if error.status != 404 or not absent or flags["pull"] != "missing":
            raise
        if not quiet:
            session.err(f"Unable to find image '{with_tag(asked.image)}' locally")
        pull(session, asked.image, platform=asked.platform, quiet=quiet)
        made = engine.create_container(asked.body, name=asked.name, platform=asked.platform)
    for warning in made.get("Warnings") or []:
        session.err(f"WARNING: {warning}")
    id: str = made["Id"]
    if cidfile:
        try:
            with open(cidfile, "x") as file:
                file.write(id)
        except OSError as error:
            raise RunError(f"failed to create the container ID file: {error.strerror}: {cidfile}") from error
    sys.stderr.flush()
    return id


COMMANDS = {
    "run": Command(
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        run,
        RUN_FLAGS,
        least=1,
        interspersed=False,
        kinds=PARSERS,
        aliases=("container run", "run"),
        exit_code=125,
    ),
    "create": Command(
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        create,
        CREATE_FLAGS,
        least=1,
        interspersed=False,
        kinds=PARSERS,
        aliases=("container create", "create"),
    ),
    "start": Command(
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        start,
        (
            ("attach", "a", "bool", False, "Attach STDOUT/STDERR and forward signals"),
            ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
            ("interactive", "i", "bool", False, "Attach container's STDIN"),
        ),
        least=1,
        aliases=("container start", "start"),
    ),
}
