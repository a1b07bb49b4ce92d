"""`attach`, `logs`, `wait` and `top`: what a running container says, and when it ends."""

from __future__ import annotations

import sys
import time

from skiff.cli import terminal
from skiff.cli.attachment import LEFT, Attachment, refuse_without_terminal
from skiff.cli.flags import Command
from skiff.client.connection import EngineError
from skiff.client.streams import Demultiplexer, Raw
from skiff.errors import Conflict, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


def attach(session: Session, flags: Parsed) -> int:
    engine = session.engine()
    found = engine.container(flags.args[0])
    state, config = found["State"], found["Config"]
    if not state["Running"]:
        raise Conflict("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Conflict("cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Conflict("cannot attach to a restarting container, wait until it is running")
    stdin = bool(config["OpenStdin"]) and not flags["no-stdin"]
    if stdin and config["Tty"]:
        refuse_without_terminal()
    attachment = Attachment(
        session,
        found["Id"],
        tty=config["Tty"],
        stdin=stdin,
        stdout=True,
        stderr=True,
        keys=terminal.detach_keys(
            flags["detach-keys"] or session.config().detach_keys or terminal.DEFAULT_DETACH_KEYS
        ),
        keys_text=flags["detach-keys"],
        proxy_signals=flags["sig-proxy"] and not config["Tty"],
    )
    with attachment:
        waiting = engine.wait_container(found["Id"])
        attachment.open()
        attachment.resize(nudge=True)
        if attachment.pump() == terminal.DETACHED:
            waiting.close()
            session.err(LEFT)
            return 1  # as Docker: whoever left does not know how it ends
        return attachment.exit_code(waiting)


def logs(session: Session, flags: Parsed) -> int:
    engine = session.engine()
    name = flags.args[0]
    response = engine.container_logs(
        name,
        follow=flags["follow"],
        since=_bound("since", flags["since"]),
        until=_bound("until", flags["until"]),
        timestamps=flags["timestamps"],
        details=flags["details"],
        tail=flags["tail"],
    )
    kind = response.headers.get("content-type", "")
    if "multiplexed" in kind:
        tty = False
    elif "vnd.docker.raw-stream" in kind:
        tty = True
    else:
        tty = bool(engine.container(name)["Config"]["Tty"])
    sys.stdout.flush()
    sink: Raw | Demultiplexer = Raw(1) if tty else Demultiplexer(1, 2)
    for data in response.chunks():
        sink.feed(data)
    return 0


def _bound(name: str, text: str) -> str:
    """--since or --until as the engine reads it; "" stays so."""
    from skiff.cli.since import timestamp

    try:
        return timestamp(text, time.time()) if text else ""
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid value for "{name}": {error}') from None


def wait(session: Session, flags: Parsed) -> int:
    failed = False
    for name in flags.args:
        try:
            ended = session.engine().wait_container(name).json()
        except EngineError as error:
            session.err(str(error))
            failed = True
        else:
            print(ended["StatusCode"], flush=True)
    return 1 if failed else 0


def top(session: Session, flags: Parsed) -> int:
    if not flags.args:
        from skiff.cli.live_top import live

        return live(session)
    found = session.engine().container_top(flags.args[0], " ".join(flags.args[1:]))
    rows = [found["Titles"], *found["Processes"]]
    widths = [max(20, *(len(row[at]) + 3 for row in rows)) for at in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:-1], widths, strict=False)]
        print("".join(cells) + row[-1])
    return 0


COMMANDS = {
    "attach": Command(
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        attach,
        (
            ("detach-keys", "", "string", "", "Override the key sequence for detaching a container"),
            ("no-stdin", "", "bool", False, "Do not attach STDIN"),
            ("sig-proxy", "", "bool", True, "Proxy all received signals to the process"),
        ),
        least=1,
        most=1,
        aliases=("container attach", "attach"),
    ),
    "logs": Command(
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        logs,
        (
            ("details", "", "bool", False, "Show extra details provided to logs"),
            ("follow", "f", "bool", False, "Follow log output"),
            (
                "since",
                "",
                "string",
                "",
                'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative '
                '(e.g. "42m" for 42 minutes)',
            ),
            ("tail", "n", "string", "all", "Number of lines to show from the end of the logs"),
            ("timestamps", "t", "bool", False, "Show timestamps"),
            (
                "until",
                "",
                "string",
                "",
                'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative '
                '(e.g. "42m" for 42 minutes)',
            ),
        ),
        least=1,
        most=1,
        aliases=("container logs", "logs"),
    ),
    "wait": Command(
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        wait,
        least=1,
        aliases=("container wait", "wait"),
    ),
    "top": Command(
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        top,
        interspersed=False,
        aliases=("container top", "top"),
        forms=(
            (
                "",
                "A screen of what all containers use, drawn anew each second, the busiest first.\n"
                "      Keys: c processor, m memory, p processes, n name; q leaves.",
            ),
        ),
    ),
}
