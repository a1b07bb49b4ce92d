"""skiff inspect, and the inspect of each noun: JSON as the engine gave it, or a template over it."""

from __future__ import annotations

import sys

from skiff.cli.flags import Command
from skiff.cli.table import FORMAT_ONE, FormatError
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

BAD_TEMPLATE = 64


def show(session: Session, names: list[str], form: str, find: Callable[[str], Any], *, kind: str = "") -> int:
    """What was found first, then what was not; 1 when anything failed, 64 for a template that cannot be.

    kind: Go's name for the things, where a template has no second try over bare JSON.
    """
    template = None
    if form and form != "json":
        from skiff.cli.template import Template, TemplateError

        try:
            template = Template(form)
        except TemplateError as error:
            session.err(f"template parsing error: {error}")
            return BAD_TEMPLATE
    found: list[Any] = []
    lines: list[str] = []
    errors: list[str] = []
    for name in names:
        try:
            value = find(name)
            if template:
                lines.append(filled(template, value, kind) + "\n")
            else:
                found.append(value)
        except SkiffError as error:
            errors.append(str(error))
    if template:
        sys.stdout.write("".join(lines) or "\n")
    elif form == "json":
        from skiff.cli.shapes import shaped
        from skiff.cli.template_values import to_json

        sys.stdout.write(to_json(shaped(found), escape_html=True) + "\n")
    else:
        sys.stdout.write(indented(found) + "\n")
    for message in errors:
        session.err(message)
    return 1 if errors else 0


def filled(template: Any, value: Any, kind: str = "") -> str:
    """The template over structs, where a wrong name is an error; else over bare JSON with the wire's names.

    Raises FormatError.
    """
    from skiff.cli.shapes import shaped
    from skiff.cli.template import TemplateError

    known: Any = shaped(value)
    if kind:
        known.kind = kind
    try:
        text: str = template.execute(known)
    except TemplateError as mistake:
        if kind:
            raise FormatError(f"template parsing error: {mistake}") from None
        try:
            text = template.execute(numbers_apart(value), strict=True)
        except TemplateError as error:
            raise FormatError(f"template parsing error: {error}") from None
    return text


def numbers_apart(value: object) -> object:
    """JSON whose numbers are no integers to a template, but their digits."""
    from skiff.cli.template_values import Verbatim

    match value:
        case dict():
            return {key: numbers_apart(item) for key, item in value.items()}
        case list():
            return [numbers_apart(item) for item in value]
        case int() | float() if not isinstance(value, bool):
            return Verbatim(value)
    return value


def indented(value: object, indent: str = "") -> str:
    """JSON with four spaces a step, its order kept."""
    from skiff.cli.template_values import json_string, to_json

    deeper = indent + "    "
    if isinstance(value, dict) and value:
        inner = ",\n".join(
            f"{deeper}{json_string(key)}: {indented(item, deeper)}" for key, item in value.items()
        )
        return "{\n" + inner + "\n" + indent + "}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(deeper + indented(item, deeper) for item in value) + "\n" + indent + "]"
    return to_json(value)


def inspect_any(session: Session, asked: Parsed) -> int:
    wanted = asked["type"]
    if "type" in asked.changed and wanted not in KINDS_OF_OBJECTS:
        if wanted in ELSEWHERE:
            raise InvalidParameter(
                f"skiff has no objects of type {wanted}: it is not a swarm node and runs no plugins"
            )
        known = ", ".join(f'"{kind}"' for kind in sorted((*KINDS_OF_OBJECTS, *ELSEWHERE)))
        if not wanted:
            raise InvalidParameter(f"type is empty: must be one of {known}")
        raise InvalidParameter(f'unknown type: "{wanted}": must be one of {known}')
    engine = session.engine()
    finders: dict[str, Callable[[str], Any]] = {
        "container": lambda name: engine.container(name, size=asked["size"]),
        "image": engine.image,
        "network": engine.network,
        "volume": engine.volume,
    }

    def find(name: str) -> Any:
        for kind, finder in finders.items():
            if wanted and kind != wanted:
                continue
            try:
                return finder(name)
            except EngineError as error:
                if wanted or error.status not in (404, 501):
                    raise
        raise InvalidParameter(f"Error: No such object: {name}")

    return show(session, asked.args, asked["format"], find)


PLATFORM = """Inspect a specific platform of the multi-platform image.
If the image or the server is not multi-platform capable, the command will error out if the platform does \
not match.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"""
KINDS_OF_OBJECTS = ("container", "image", "network", "volume")
ELSEWHERE = ("config", "node", "plugin", "secret", "service", "task")


def inspect_container(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    return show(session, asked.args, asked["format"], lambda name: engine.container(name, size=asked["size"]))


def inspect_image(session: Session, asked: Parsed) -> int:
    from skiff.cli.image import described

    engine, platform = session.engine(), described(asked["platform"])
    return show(session, asked.args, asked["format"], lambda name: engine.image(name, platform=platform))


def inspect_volume(session: Session, asked: Parsed) -> int:
    return show(session, asked.args, asked["format"], session.engine().volume, kind="volume.Volume")


def inspect_network(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    return show(
        session, asked.args, asked["format"], lambda name: engine.network(name, verbose=asked["verbose"])
    )


COMMANDS = {
    "inspect": Command(
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        inspect_any,
        (
            FORMAT_ONE,
            ("size", "s", "bool", False, "Display total file sizes if the type is container"),
            ("type", "", "string", "", "Only inspect objects of the given type"),
        ),
        least=1,
    ),
    "container inspect": Command(
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        inspect_container,
        (FORMAT_ONE, ("size", "s", "bool", False, "Display total file sizes")),
        least=1,
    ),
    "image inspect": Command(
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        inspect_image,
        (FORMAT_ONE, ("platform", "", "string", "", PLATFORM)),
        least=1,
    ),
    "volume inspect": Command(
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        inspect_volume,
        (FORMAT_ONE,),
        least=1,
    ),
    "network inspect": Command(
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        inspect_network,
        (FORMAT_ONE, ("verbose", "v", "bool", False, "Verbose output for diagnostics")),
        least=1,
    ),
}
