"""skiff ps: what runs here. On the fastest path of all, so it imports next to nothing."""

from __future__ import annotations

import sys
import time

from skiff.cli import human
from skiff.cli.filters import FILTER, KINDS, wire
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render, tried

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
NOBODY: Json = {
    "Id": "",
    "Image": "",
    "ImageID": "",
    "Command": "",
    "Created": 0,
    "Status": "",
    "State": "",
    "Names": (),
}
RAW = (
    ("container_id", "ID"),
    ("image", "Image"),
    ("command", "Command"),
    ("created_at", "CreatedAt"),
    ("state", "State"),
    ("status", "Status"),
    ("names", "Names"),
    ("labels", "Labels"),
    ("ports", "Ports"),
)


def ps(session: Session, asked: Parsed) -> int:
    form = asked["format"] or session.config().format("ps")
    with_size = asked["size"] or ".Size" in form or "json ." in form
    shown = listing(truncate=not asked["no-trunc"], size=asked["size"], now=time.time())
    if asked["format"] and "{{" in form:  # Docker tells a mistake before it asks the engine
        tried(shown, form)
    if asked["quiet"]:
        if asked["format"]:
            session.err("WARNING: Ignoring custom format, because both --format and --quiet are set.")
        form = "raw" if form == "raw" else ""
    limit = asked["last"] if asked["last"] != -1 else 1 if asked["latest"] else None
    items = session.engine().containers(
        all=asked["all"], limit=limit, size=with_size, filters=wire(asked["filter"])
    )
    sys.stdout.write(render(shown, items, form=form, quiet=asked["quiet"]))
    return 0


def listing(*, truncate: bool, size: bool, now: float) -> Listing:
    """size: with the SIZE column. now: Unix seconds."""
    fields = {
        "ID": ("CONTAINER ID", lambda c: c["Id"][:12] if truncate else c["Id"]),
        "Image": ("IMAGE", lambda c: image(c, truncate=truncate)),
        "Command": (
            "COMMAND",
            lambda c: human.quoted(human.ellipsis(c["Command"], 20) if truncate else c["Command"]),
        ),
        "CreatedAt": ("CREATED AT", lambda c: human.local(c["Created"])),
        "RunningFor": ("CREATED", lambda c: human.ago(c["Created"], now)),
        "Status": ("STATUS", lambda c: c["Status"]),
        "State": ("STATE", lambda c: c["State"]),
        "Ports": ("PORTS", lambda c: ports(c.get("Ports") or [])),
        "Names": ("NAMES", lambda c: names(c, truncate=truncate)),
        "Labels": ("LABELS", lambda c: labels(c.get("Labels"))),
        "Label": ("", lambda c: lambda name: (c.get("Labels") or {}).get(name, "")),
        "LocalVolumes": (
            "LOCAL VOLUMES",
            lambda c: str(sum(mount.get("Driver") == "local" for mount in c.get("Mounts") or [])),
        ),
        "Mounts": ("MOUNTS", lambda c: mounts(c.get("Mounts") or [], truncate=truncate)),
        "Networks": (
            "NETWORKS",
            lambda c: ",".join(sorted((c.get("NetworkSettings") or {}).get("Networks") or {})),
        ),
        "Platform": ("PLATFORM", platform),
        "Size": ("SIZE", sizes),
    }
    columns = (*COLUMNS, "Size") if size else COLUMNS
    raw = (*RAW, ("size", "Size")) if size else RAW
    return Listing("*formatter.ContainerContext", fields, columns, raw=raw, nobody=NOBODY)


def image(container: Json, *, truncate: bool) -> str:
    name: str = container["Image"]
    if not name:
        return "<no image>"
    if truncate:
        id = human.short_id(container["ImageID"])
        if id == human.short_id(name):
            return id
        if "@" in name:
            return name.partition("@")[0]
    return name


def names(container: Json, *, truncate: bool) -> str:
    """Aliases that links made, /other/name, only without truncation."""
    plain = (name.removeprefix("/") for name in container["Names"] or ())
    return ",".join(name for name in plain if not (truncate and "/" in name))


def labels(given: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((given or {}).items()))


def mounts(given: list[Json], *, truncate: bool) -> str:
    each = (mount.get("Name") or mount.get("Source", "") for mount in given)
    return ",".join(human.ellipsis(name, 15) if truncate else name for name in each)


def platform(container: Json) -> str | None:
    found = (container.get("ImageManifestDescriptor") or {}).get("platform")
    if not found:
        return None
    return "/".join(part for part in (found["os"], found["architecture"], found.get("variant")) if part)


def sizes(container: Json) -> str:
    written = human.size(container.get("SizeRw") or 0, 3)
    virtual = container.get("SizeRootFs") or 0
    return f"{written} (virtual {human.size(virtual, 3)})" if virtual > 0 else written


def ports(given: list[Json]) -> str:
    """0.0.0.0:8080->80/tcp, 9000-9003/tcp: runs of equal host and container ports become ranges."""
    ordered = sorted(
        given,
        key=lambda p: (p["PrivatePort"], p.get("IP") or "", p.get("PublicPort") or 0, p.get("Type") or ""),
    )
    groups: dict[tuple[str, str], list[int]] = {}
    done: list[str] = []
    mapped: list[str] = []
    for port in ordered:
        private, public, kind = port["PrivatePort"], port.get("PublicPort") or 0, port.get("Type") or ""
        address = port.get("IP") or ""
        if public and public != private:
            mapped.append(f"{_host(address)}:{public}->{private}/{kind}")
            continue
        key = (address if public else "", kind)
        run = groups.get(key)
        if run is None:
            groups[key] = [private, private]
        elif run[1] in (private, private - 1):
            run[1] = private
        else:
            done.append(_range(key, run))
            groups[key] = [private, private]
    done += [_range(key, run) for key, run in groups.items()]
    return ", ".join(done + mapped)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _range(key: tuple[str, str], run: list[int]) -> str:
    address, kind = key
    text = str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"
    return f"{_host(address)}:{text}->{text}/{kind}" if address else f"{text}/{kind}"


COMMANDS = {
    "ps": Command(
        "[OPTIONS]",
        "List containers",
        ps,
        (
            ("all", "a", "bool", False, "Show all containers (default shows just running)"),
            FILTER,
            FORMAT,
            ("last", "n", "int", -1, "Show n last created containers (includes all states)"),
            ("latest", "l", "bool", False, "Show the latest created container (includes all states)"),
            ("no-trunc", "", "bool", False, "Don't truncate output"),
            ("quiet", "q", "bool", False, "Only display container IDs"),
            ("size", "s", "bool", False, "Display total file sizes"),
        ),
        most=0,
        kinds=KINDS,
        aliases=("container ls", "container list", "container ps", "ps"),
    )
}
