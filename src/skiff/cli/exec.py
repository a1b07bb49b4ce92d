"""`exec`: a command in a running container. create, start (hijacked), inspect for the exit code."""

from __future__ import annotations

from skiff.cli import terminal
from skiff.cli.attachment import LEFT, Attachment, refuse_without_terminal
from skiff.cli.flags import Command
from skiff.cli.outcome import REFUSED, start_code
from skiff.client.config_file import home
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


def execute(session: Session, flags: Parsed) -> int:
    container, *command = flags.args
    keys_text = flags["detach-keys"] or session.config().detach_keys or terminal.DEFAULT_DETACH_KEYS
    keys = terminal.detach_keys(keys_text)
    detach, tty, stdin = flags["detach"], flags["tty"], flags["interactive"] and not flags["detach"]
    if tty and stdin:
        refuse_without_terminal()
    engine = session.engine()
    size = terminal.window_size(1) if tty else None
    body = {
        "User": flags["user"],
        "Privileged": flags["privileged"],
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "DetachKeys": flags["detach-keys"],
        "Env": _environment(session, flags) or None,
        "WorkingDir": flags["workdir"],
        "Cmd": command,
    }
    if size is not None:
        body["ConsoleSize"] = list(size)
    try:
        id = engine.create_exec(container, body)
        if detach:
            engine.start_exec_detached(id, tty=tty)
            return 0
        attachment = Attachment(
            session,
            id,
            tty=tty,
            stdin=stdin,
            stdout=True,
            stderr=True,
            keys=keys,
            start=lambda: engine.start_exec(id, tty=tty, console_size=list(size) if size else None),
            resize_to=lambda height, width: engine.resize_exec(id, height=height, width=width),
        )
        with attachment:
            attachment.open()
            attachment.resize()
            if attachment.pump() == terminal.DETACHED:
                session.err(LEFT)
                return 1
        return int(engine.exec(id).get("ExitCode") or 0)
    except EngineError as error:
        session.err(str(error))
        # Detached, or refused before the command was looked at: Docker ends with 1.
        code = start_code(error.message) if error.status == 400 and not detach else REFUSED
        return 1 if code == REFUSED else code


def _parse_env(text: str) -> str:
    from skiff.cli.run_values import parse_env

    return parse_env(text)


def _environment(session: Session, flags: Parsed) -> list[str]:
    if not flags["env-file"] and not flags["env"]:
        return []
    from skiff.cli.run_values import Surroundings, environment

    own = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in session.environment.items()
    }
    around = Surroundings(cwd="/", home=home(session.env), environment=own, read=_read)
    try:
        return environment(flags["env-file"], flags["env"], around)
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


COMMANDS = {
    "exec": Command(
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        execute,
        (
            ("detach", "d", "bool", False, "Detached mode: run command in the background"),
            ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
            ("env", "e", "list", [], "Set environment variables"),
            ("env-file", "", "list", [], "Read in a file of environment variables"),
            ("interactive", "i", "bool", False, "Keep STDIN open even if not attached"),
            ("privileged", "", "bool", False, "Give extended privileges to the command"),
            ("tty", "t", "bool", False, "Allocate a pseudo-TTY"),
            ("user", "u", "string", "", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
            ("workdir", "w", "string", "", "Working directory inside the container"),
        ),
        least=2,
        interspersed=False,
        kinds={"--env": _parse_env},
        aliases=("container exec", "exec"),
    )
}
