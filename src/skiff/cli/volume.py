"""skiff volume ls, create, rm, prune."""

from __future__ import annotations

import sys

from skiff.cli import human
from skiff.cli.container_list import labels
from skiff.cli.each import each
from skiff.cli.filters import DRY_RUN, FORCE, KINDS, agreed, wire
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

NOT_A_CLUSTER = "N/A"


def ls(session: Session, asked: Parsed) -> int:
    found = session.engine().volumes(wire(asked["filter"])).get("Volumes") or []
    found.sort(key=lambda volume: human.natural(volume["Name"]))
    form = asked["format"] or session.config().format("volumes")
    sys.stdout.write(render(listing(), found, form=form, quiet=asked["quiet"]))
    return 0


def listing() -> Listing:
    fields = {
        "Name": ("VOLUME NAME", lambda v: v["Name"]),
        "Driver": ("DRIVER", lambda v: v["Driver"]),
        "Scope": ("SCOPE", lambda v: v["Scope"]),
        "Mountpoint": ("MOUNTPOINT", lambda v: v["Mountpoint"]),
        "Labels": ("LABELS", lambda v: labels(v.get("Labels"))),
        "Label": ("", lambda v: lambda name: (v.get("Labels") or {}).get(name, "")),
        "Links": ("LINKS", lambda v: str(v["UsageData"]["RefCount"]) if v.get("UsageData") else "N/A"),
        "Size": ("SIZE", lambda v: human.size(v["UsageData"]["Size"]) if v.get("UsageData") else "N/A"),
        "Availability": ("AVAILABILITY", lambda v: NOT_A_CLUSTER),
        "Group": ("GROUP", lambda v: NOT_A_CLUSTER),
        "Status": ("STATUS", lambda v: NOT_A_CLUSTER),
    }
    raw = (("name", "Name"), ("driver", "Driver"))
    return Listing("*formatter.volumeContext", fields, ("Driver", "Name"), quiet="Name", raw=raw)


def pairs(given: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE, KEY → a map; a key alone has an empty value."""
    return {key: value for key, _, value in (text.partition("=") for text in given)}


def create(session: Session, asked: Parsed) -> int:
    if asked.args and asked["name"]:
        raise InvalidParameter(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
        )
    body = {
        "Name": asked.args[0] if asked.args else asked["name"],
        "Driver": asked["driver"],
        "DriverOpts": pairs(asked["opt"]),
        "Labels": pairs(asked["label"]),
    }
    print(session.engine().create_volume(body)["Name"])
    return 0


def rm(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    return each(session, asked.args, lambda name: engine.remove_volume(name, force=asked["force"]))


def prune(session: Session, asked: Parsed) -> int:
    everything = asked["all"]
    kind = "all" if everything else "anonymous"
    warning = f"WARNING! This will remove {kind} local volumes not used by at least one container."
    dry = asked["dry-run"]
    if not dry and not asked["force"] and not agreed(session, warning):
        return 0
    filters = wire(asked["filter"])
    if everything:
        if "all" in filters:
            raise InvalidParameter("conflicting options: cannot specify both --all and --filter all=1")
        filters["all"] = ["true"]
    engine = session.engine()
    reply = engine.prunable("volumes", filters) if dry else engine.prune_volumes(filters)
    if reply.get("VolumesDeleted"):
        print("Would delete volumes:" if dry else "Deleted Volumes:")
        print("\n".join(reply["VolumesDeleted"]) + "\n")
    print(f"Total {'reclaimable' if dry else 'reclaimed'} space: {human.size(reply['SpaceReclaimed'])}")
    return 0


COMMANDS = {
    "volume create": Command(
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        create,
        (
            ("driver", "d", "string", "local", "Specify volume driver name"),
            ("label", "", "list", (), "Set metadata for a volume"),
            ("name", "", "string", "", ""),
            ("opt", "o", "map", (), "Set driver specific options"),
        ),
        most=1,
    ),
    "volume ls": Command(
        "[OPTIONS]",
        "List volumes",
        ls,
        (
            ("filter", "f", "filter", (), 'Provide filter values (e.g. "dangling=true")'),
            FORMAT,
            ("quiet", "q", "bool", False, "Only display volume names"),
        ),
        most=0,
        kinds=KINDS,
        aliases=("volume ls", "volume list"),
    ),
    "volume prune": Command(
        "[OPTIONS]",
        "Remove unused local volumes",
        prune,
        (
            ("all", "a", "bool", False, "Remove all unused volumes, not just anonymous ones"),
            ("filter", "", "filter", (), 'Provide filter values (e.g. "label=<label>")'),
            FORCE,
            DRY_RUN,
        ),
        most=0,
        kinds=KINDS,
    ),
    "volume rm": Command(
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        rm,
        (("force", "f", "bool", False, "Force the removal of one or more volumes"),),
        least=1,
        aliases=("volume rm", "volume remove"),
        long="Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    ),
}
