"""skiff info: what the engine says of its host, line by line."""

from __future__ import annotations

import sys

from skiff.cli.flags import Command
from skiff.cli.human import binary_size
from skiff.cli.table import FORMAT_ONE
from skiff.cli.version import BAD_TEMPLATE, client, context, filled
from skiff.errors import SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


EXTRAS: Json = {"ServerErrors": [], "ClientErrors": []}


def info(session: Session, asked: Parsed) -> int:
    template = None
    if asked["format"]:
        from skiff.cli.template import Template, TemplateError

        try:
            template = Template("{{json .}}" if asked["format"] == "json" else asked["format"])
        except TemplateError as error:
            session.err(f"template parsing error: {error}")
            return BAD_TEMPLATE
    failure: SkiffError | None = None
    known: Json = {}
    try:
        known = session.engine().info()
    except SkiffError as error:
        failure = error
    mine = client(session) | {"Debug": bool(session.top["debug"]), "Plugins": [], "Warnings": None}
    if template:
        sys.stdout.write(filled(template, known | EXTRAS | {"ClientInfo": mine}, "system.dockerInfo") + "\n")
    else:
        lines = ["Client:", f" Version:    {mine['Version']}", f" Context:    {context(session)}"]
        lines += [f" Debug Mode: {_word(mine['Debug'])}", "", "Server:"]
        if failure:
            sys.stdout.write("\n".join(lines) + "\n")
        else:
            sys.stdout.write("\n".join([*lines, *server(known)]) + "\n\n")
            for warning in known.get("Warnings") or ():
                session.err(warning)
    if failure:
        session.err(str(failure))
        return 1
    return 0


def _word(value: object) -> str:
    return "true" if value else "false"


def server(known: Json) -> Iterator[str]:
    """The lines below "Server:"."""
    yield f" Containers: {known['Containers']}"
    yield f"  Running: {known['ContainersRunning']}"
    yield f"  Paused: {known['ContainersPaused']}"
    yield f"  Stopped: {known['ContainersStopped']}"
    yield f" Images: {known['Images']}"
    yield from _said(" Server Version", known.get("ServerVersion"))
    yield from _said(" Storage Driver", known.get("Driver"))
    yield from (f"  {name}: {value}" for name, value in known.get("DriverStatus") or ())
    yield from _said(" Logging Driver", known.get("LoggingDriver"))
    yield from _said(" Cgroup Driver", known.get("CgroupDriver"))
    yield from _said(" Cgroup Version", known.get("CgroupVersion"))
    yield from _plugins(known.get("Plugins") or {})
    yield from _listed(" CDI spec directories:", known.get("CDISpecDirs"))
    devices = known.get("DiscoveredDevices") or ()
    yield from _listed(" Discovered Devices:", [f"{d['Source']}: {d['ID']}" for d in devices])
    swarm = (known.get("Swarm") or {}).get("LocalNodeState")
    yield from _said(" Swarm", swarm)
    if known.get("Runtimes"):
        yield " Runtimes: " + " ".join(sorted(known["Runtimes"]))
        yield f" Default Runtime: {known.get('DefaultRuntime', '')}"
    yield f" Init Binary: {known.get('InitBinary', '')}"
    for part, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        if key in known:
            yield f" {part} version: {(known[key] or {}).get('ID', '')}"
    yield from _security(known.get("SecurityOptions") or ())
    yield f" Kernel Version: {known.get('KernelVersion', '')}"
    yield f" Operating System: {known.get('OperatingSystem', '')}"
    yield f" OSType: {known.get('OSType', '')}"
    yield f" Architecture: {known.get('Architecture', '')}"
    yield f" CPUs: {known.get('NCPU', 0)}"
    yield f" Total Memory: {binary_size(known.get('MemTotal') or 0)}"
    yield f" Name: {known.get('Name', '')}"
    yield f" ID: {known.get('ID', '')}"
    yield f" Docker Root Dir: {known.get('DockerRootDir', '')}"
    yield f" Debug Mode: {_word(known.get('Debug'))}"
    if known.get("Debug"):
        yield f"  File Descriptors: {known.get('NFd', 0)}"
        yield f"  Goroutines: {known.get('NGoroutines', 0)}"
        yield f"  System Time: {known.get('SystemTime', '')}"
        yield f"  EventsListeners: {known.get('NEventsListener', 0)}"
    yield from _said(" HTTP Proxy", known.get("HttpProxy"))
    yield from _said(" HTTPS Proxy", known.get("HttpsProxy"))
    yield from _said(" No Proxy", known.get("NoProxy"))
    yield from _said(" Username", known.get("Username"))
    yield from _listed(" Labels:", known.get("Labels"))
    yield f" Experimental: {_word(known.get('ExperimentalBuild'))}"
    registries = known.get("RegistryConfig") or {}
    insecure = [
        name
        for name, index in (registries.get("IndexConfigs") or {}).items()
        if not index.get("Secure", True)
    ]
    insecure += registries.get("InsecureRegistryCIDRs") or ()
    yield from _listed(" Insecure Registries:", insecure)
    yield from _listed(" Registry Mirrors:", registries.get("Mirrors"))
    yield f" Live Restore Enabled: {_word(known.get('LiveRestoreEnabled'))}"
    yield from _said(" Product License", known.get("ProductLicense"))
    pools = known.get("DefaultAddressPools")
    yield from _listed(
        " Default Address Pools:", [f"Base: {p['Base']}, Size: {p['Size']}" for p in pools or ()]
    )
    firewall = known.get("FirewallBackend")
    if firewall and firewall["Driver"] != "iptables":
        yield f" Firewall Backend: {firewall['Driver']}"
        yield from (f"  {name}: {value}" for name, value in firewall.get("Info") or ())


def _said(label: str, value: object) -> Iterator[str]:
    if value:
        yield f"{label}: {value}"


def _listed(head: str, values: Iterable[object] | None) -> Iterator[str]:
    """A head and one indented line for each value; nothing when there is none."""
    for place, value in enumerate(values or ()):
        if not place:
            yield head
        yield f"  {value}"


def _plugins(plugins: Json) -> Iterator[str]:
    yield " Plugins:"
    yield f"  Volume: {' '.join(plugins.get('Volume') or ())}"
    yield f"  Network: {' '.join(plugins.get('Network') or ())}"
    if plugins.get("Authorization"):
        yield f"  Authorization: {' '.join(plugins['Authorization'])}"
    yield f"  Log: {' '.join(plugins.get('Log') or ())}"


def _security(options: Iterable[str]) -> Iterator[str]:
    """name=seccomp,profile=builtin → the name, and below it what else is said."""
    for place, option in enumerate(options):
        if not place:
            yield " Security Options:"
        pairs = [pair.partition("=")[::2] for pair in option.split(",")]
        yield from (f"  {value}" for key, value in pairs if key == "name")
        yield from (f"   {key.title()}: {value}" for key, value in pairs if key != "name")


COMMANDS = {
    "info": Command(
        "[OPTIONS]",
        "Display system-wide information",
        info,
        (FORMAT_ONE,),
        most=0,
        aliases=("system info", "info"),
    )
}
