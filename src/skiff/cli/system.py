"""skiff events, system df and system prune."""

from __future__ import annotations

import sys
import time

from skiff.cli import human
from skiff.cli.filters import DRY_RUN, FILTER, FORCE, KINDS, agreed, wire
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, FORMAT_ONE, FormatError
from skiff.cli.version import BAD_TEMPLATE
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def events(session: Session, asked: Parsed) -> int:
    from skiff.cli.since import timestamp

    template = None
    if asked["format"]:
        from skiff.cli.template import Template, TemplateError

        try:
            template = Template("{{json .}}" if asked["format"] == "json" else asked["format"])
        except TemplateError as error:
            session.err(f"Error parsing format: {error}")
            return BAD_TEMPLATE
        try:
            _filled(template, {})  # a wrong name is told before the first event
        except FormatError as error:
            session.err(str(error))
            return BAD_TEMPLATE
    now = time.time()
    bounds = {name: timestamp(asked[name], now) if asked[name] else None for name in ("since", "until")}
    for event in session.engine().events(filters=wire(asked["filter"]), **bounds):
        print(event_line(event) if template is None else _filled(template, event), flush=True)
    return 0


def event_line(event: Json) -> str:
    """2026-11-23T20:41:13.218979374Z container start ID (image=alpine, name=web)."""
    nanoseconds = event.get("timeNano") or event["time"] * 1_000_000_000
    seconds = nanoseconds // 1_000_000_000
    when = human.local_rfc3339(seconds, zone=False)
    when += f".{nanoseconds % 1_000_000_000:09d}{human.offset(time.localtime(seconds))}"
    actor = event["Actor"]
    text = f"{when} {event['Type']} {event['Action']} {actor['ID']}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    return f"{text} ({attributes})" if attributes else text


def _filled(template: Any, message: Json) -> str:
    """Raises FormatError."""
    from skiff.cli.shapes import event
    from skiff.cli.template import TemplateError

    try:
        text: str = template.execute(event(message))
    except TemplateError as error:
        raise FormatError(f"Error parsing format: {error}") from None
    return text


def df(session: Session, asked: Parsed) -> int:
    from skiff.cli import usage
    from skiff.cli.table import render

    if asked["verbose"] and asked["format"]:
        raise InvalidParameter("the verbose and the format options conflict")
    used = session.engine().disk_usage()
    if asked["verbose"]:
        sys.stdout.write(usage.verbose(used, time.time()))
    else:
        sys.stdout.write(render(usage.LISTING, usage.summary(used), form=asked["format"]))
    return 0


def prune(session: Session, asked: Parsed) -> int:
    everything, volumes = asked["all"], asked["volumes"]
    filters = wire(asked["filter"])
    if volumes and "until" in filters:
        raise InvalidParameter('ERROR: The "until" filter is not supported with "--volumes"')
    lines = ["WARNING! This will remove:", "  - all stopped containers"]
    lines.append("  - all networks not used by at least one container")
    if volumes:
        lines.append("  - all anonymous volumes not used by at least one container")
    lines.append(
        "  - all images without at least one container associated to them"
        if everything
        else "  - all dangling images"
    )
    lines.append("  - all build cache" if everything else "  - unused build cache")
    if filters:
        lines += ["", "  Items to be pruned will be filtered with:"]
        lines += [f"  - {name}={value}" for name, value in sorted(asked["filter"])]
    lines.append("")
    dry = asked["dry-run"]
    if not dry and not asked["force"] and not agreed(session, "\n".join(lines)):
        return 0
    return _prune(session, filters, everything=everything, volumes=volumes, dry=dry)


def _prune(
    session: Session, filters: dict[str, list[str]], *, everything: bool, volumes: bool, dry: bool
) -> int:
    from skiff.cli.image import pruned_images
    from skiff.client.connection import EngineError

    engine = session.engine()
    space = 0
    failed = False

    def gone(title: str, key: str, reply: Json) -> None:
        nonlocal space
        space += reply.get("SpaceReclaimed") or 0
        if reply.get(key):
            print(
                f"{title.replace('Deleted', 'Would delete') if dry else title}:\n"
                + "\n".join(reply[key])
                + "\n"
            )

    def pruned(noun: str, act: Any) -> Json:
        reply: Json = engine.prunable(noun, filters) if dry else act(filters)
        return reply

    def images() -> None:
        nonlocal space
        wanted = filters | {"dangling": ["false" if everything else "true"]}
        reply = engine.prunable("images", wanted) if dry else engine.prune_images(wanted)
        space += reply.get("SpaceReclaimed") or 0
        sys.stdout.write(pruned_images(reply.get("ImagesDeleted") or [], dry=dry))

    steps = [
        lambda: gone(
            "Deleted Containers", "ContainersDeleted", pruned("containers", engine.prune_containers)
        ),
        lambda: gone("Deleted Networks", "NetworksDeleted", pruned("networks", engine.prune_networks)),
        *(
            (lambda: gone("Deleted Volumes", "VolumesDeleted", pruned("volumes", engine.prune_volumes)),)
            if volumes
            else ()
        ),
        images,
    ]
    if not filters.keys() & {"label", "label!"}:  # what builds keep has no labels
        steps.append(
            lambda: gone(
                "Deleted build cache objects",
                "CachesDeleted",
                engine.prune_build_cache(dry=dry, all=everything or None, filters=filters or None),
            )
        )
    for step in steps:
        try:
            step()
        except EngineError as error:
            if error.status != 501:
                raise
            session.err(str(error))  # a noun this engine has not: the others are still cleaned
            failed = True
    print(f"Total {'reclaimable' if dry else 'reclaimed'} space: {human.size(space)}")
    return 1 if failed else 0


COMMANDS = {
    "events": Command(
        "[OPTIONS]",
        "Get real time events from the server",
        events,
        (
            FILTER,
            ("format", "", *FORMAT_ONE[2:]),
            ("since", "", "string", "", "Show all events created since timestamp"),
            ("until", "", "string", "", "Stream events until this timestamp"),
        ),
        most=0,
        kinds=KINDS,
        aliases=("system events", "events"),
    ),
    "system df": Command(
        "[OPTIONS]",
        "Show docker disk usage",
        df,
        (FORMAT, ("verbose", "v", "bool", False, "Show detailed information on space usage")),
        most=0,
    ),
    "system prune": Command(
        "[OPTIONS]",
        "Remove unused data",
        prune,
        (
            ("all", "a", "bool", False, "Remove all unused images not just dangling ones"),
            ("filter", "", "filter", (), 'Provide filter values (e.g. "label=<key>=<value>")'),
            FORCE,
            DRY_RUN,
            ("volumes", "", "bool", False, "Prune anonymous volumes"),
        ),
        most=0,
        kinds=KINDS,
    ),
}
