"""skiff version: the client, then the engine and its parts. On a fast path: imports next to nothing."""

from __future__ import annotations

import posix
import sys

from skiff import __version__
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT_ONE, FormatError
from skiff.client.connection import API_VERSION
from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

WIDTH = 20
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
BAD_TEMPLATE = 64


def version(session: Session, asked: Parsed) -> int:
    template = None
    if asked["format"]:
        from skiff.cli.template import Template, TemplateError

        try:
            template = Template("{{json .}}" if asked["format"] == "json" else asked["format"], "version")
        except TemplateError as error:
            session.err(f"template parsing error: {error}")
            return BAD_TEMPLATE
    mine = client(session)
    theirs: Json | None = None
    failure: SkiffError | None = None
    try:
        theirs = with_plain_times(session.engine().version())
    except SkiffError as error:
        failure = error
    if template:
        sys.stdout.write(filled(template, {"Client": mine, "Server": theirs}, "system.versionInfo") + "\n")
    else:
        sys.stdout.write(page(mine, theirs))
    if failure:
        session.err(str(failure))
        return 1
    return 0


def with_plain_times(theirs: Json) -> Json:
    """The engine's build time as C writes times: Tue Sep 15 11:02:57 2026."""
    import time

    from skiff.cli.human import instant

    for component in theirs.get("Components") or ():
        details = component.get("Details") or {}
        try:
            seconds, _ = instant(details.get("BuildTime", ""))
        except ValueError:
            continue
        details["BuildTime"] = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(seconds))
    return theirs


def client(session: Session) -> Json:
    machine = posix.uname().machine
    python = sys.version_info
    return {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "PythonVersion": f"{python.major}.{python.minor}.{python.micro}",
        "Os": "linux",
        "Arch": ARCHITECTURES.get(machine, machine),
        "Context": context(session),
    }


def context(session: Session) -> str:
    """The name of the context in use; an explicit host makes it the default one."""
    if session.top["context"]:
        return str(session.top["context"])
    if session.top["host"] or session.env("DOCKER_HOST"):
        return "default"
    return session.env("DOCKER_CONTEXT") or session.config().current_context or "default"


def page(mine: Json, theirs: Json | None) -> str:
    lines = [
        "Client:",
        _line(1, "Version", mine["Version"]),
        _line(1, "API version", mine["ApiVersion"]),
        _line(1, "Python version", mine["PythonVersion"]),
        _line(1, "OS/Arch", f"{mine['Os']}/{mine['Arch']}"),
        _line(1, "Context", mine["Context"]),
    ]
    if theirs is not None:
        platform = (theirs.get("Platform") or {}).get("Name")
        lines += ["", f"Server: {platform}" if platform else "Server:"]
        for component in theirs.get("Components") or [_engine(theirs)]:
            lines += _component(component)
    return "\n".join(lines) + "\n"


def _line(indent: int, label: str, value: str) -> str:
    return f"{' ' * indent}{label}:".ljust(WIDTH) + value


def _engine(theirs: Json) -> Json:
    """What engines without Components say of themselves."""
    return {
        "Name": "Engine",
        "Version": theirs.get("Version", ""),
        "Details": {key: str(value) for key, value in theirs.items() if isinstance(value, str)},
    }


def _component(component: Json) -> list[str]:
    details = component.get("Details") or {}
    lines = [f" {component['Name']}:", _line(2, "Version", component["Version"])]
    if component["Name"] != "Engine":
        return lines + [_line(2, key, details[key]) for key in sorted(details)]
    api = f"{details.get('ApiVersion', '')} (minimum version {details.get('MinAPIVersion', '')})"
    lines.append(_line(2, "API version", api))
    if details.get("PythonVersion"):
        lines.append(_line(2, "Python version", details["PythonVersion"]))
    else:
        lines.append(_line(2, "Go version", details.get("GoVersion", "")))
    lines += [
        _line(2, "Git commit", details.get("GitCommit", "")),
        _line(2, "Built", details.get("BuildTime", "")),
        _line(2, "OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"),
        _line(2, "Experimental", details.get("Experimental", "")),
    ]
    return lines


def filled(template: Any, value: Json, kind: str) -> str:
    """Writes what came before the mistake, as Go does. Raises FormatError.

    kind: Go's name for the value, which its messages show.
    """
    from skiff.cli.shapes import shaped
    from skiff.cli.template import TemplateError

    known: Any = shaped(value)
    known.kind = kind
    if known.get("Server"):
        known["Server"].kind = "*types.Version"
        known["Server"].setdefault("Experimental", False)
    try:
        text: str = template.execute(known)
    except TemplateError as error:
        sys.stdout.write(error.written + "\n")
        raise FormatError(str(error)) from None
    return text


COMMANDS = {
    "version": Command(
        "[OPTIONS]",
        "Show the Docker version information",
        version,
        (FORMAT_ONE,),
        most=0,
    )
}
