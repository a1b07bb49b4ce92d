"""skiff network ls, create, rm, prune, connect, disconnect."""

from __future__ import annotations

import sys

from skiff.cli import human
from skiff.cli.container_list import labels
from skiff.cli.filters import DRY_RUN, FORCE, KINDS, PRUNE_FILTER, agreed, wire
from skiff.cli.flags import Command
from skiff.cli.table import FORMAT, Listing, render
from skiff.cli.volume import pairs
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter, SkiffError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def ls(session: Session, asked: Parsed) -> int:
    found = session.engine().networks(wire(asked["filter"]))
    found.sort(key=lambda network: human.natural(network["Name"]))
    form = asked["format"] or session.config().format("networks")
    shown = listing(truncate=not asked["no-trunc"])
    sys.stdout.write(render(shown, found, form=form, quiet=asked["quiet"]))
    return 0


def listing(*, truncate: bool) -> Listing:
    def flag(name: str) -> Any:
        return lambda n: "true" if n.get(name) else "false"

    fields = {
        "ID": ("NETWORK ID", lambda n: n["Id"][:12] if truncate else n["Id"]),
        "Name": ("NAME", lambda n: n["Name"]),
        "Driver": ("DRIVER", lambda n: n["Driver"]),
        "Scope": ("SCOPE", lambda n: n["Scope"]),
        "IPv4": ("IPV4", flag("EnableIPv4")),
        "IPv6": ("IPV6", flag("EnableIPv6")),
        "Internal": ("INTERNAL", flag("Internal")),
        "Labels": ("LABELS", lambda n: labels(n.get("Labels"))),
        "Label": ("", lambda n: lambda name: (n.get("Labels") or {}).get(name, "")),
        "CreatedAt": ("CREATED AT", lambda n: human.go_time(n["Created"])),
    }
    raw = (("network_id", "ID"), ("name", "Name"), ("driver", "Driver"), ("scope", "Scope"))
    return Listing("*network.networkContext", fields, ("ID", "Name", "Driver", "Scope"), raw=raw)


def create(session: Session, asked: Parsed) -> int:
    body: Json = {
        "Name": asked.args[0],
        "Driver": asked["driver"],
        "Scope": asked["scope"],
        "IPAM": {
            "Driver": asked["ipam-driver"],
            "Options": pairs(asked["ipam-opt"]),
            "Config": pools(
                asked["subnet"], asked["ip-range"], asked["gateway"], pairs(asked["aux-address"])
            ),
        },
        "Options": pairs(asked["opt"]) | ({"skiff.egress": asked["egress"]} if asked["egress"] else {}),
        "Labels": pairs(asked["label"]),
        "Internal": asked["internal"],
        "Attachable": asked["attachable"],
        "ConfigOnly": asked["config-only"],
    }
    if asked["config-from"]:
        body["ConfigFrom"] = {"Network": asked["config-from"]}
    if asked["ingress"]:
        body["Ingress"] = True
    for flag, name in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if flag in asked.changed:
            body[name] = asked[flag]
    reply = session.engine().create_network(body)
    if reply.get("Warning"):
        session.err(f"WARNING: {reply['Warning']}")
    print(reply["Id"])
    return 0


def pools(
    subnets: Sequence[str], ranges: Sequence[str], gateways: Sequence[str], reserved: dict[str, str]
) -> list[Json]:
    """Each subnet with the range, gateway and addresses that lie in it. Raises InvalidParameter."""
    if not subnets and (ranges or gateways):
        raise InvalidParameter("every ip-range or gateway must have a corresponding subnet")
    from ipaddress import ip_address, ip_network

    try:
        nets = [ip_network(subnet, strict=False) for subnet in subnets]
    except ValueError:
        return [{"Subnet": subnet} for subnet in subnets]  # the engine has the words for it
    made: list[Json] = [{"Subnet": subnet} for subnet in subnets]
    for place, net in enumerate(nets):
        if any(net.version == other.version and net.overlaps(other) for other in nets[:place]):
            raise InvalidParameter("multiple overlapping subnet configuration is not supported")

    def home(text: str, what: str) -> Json:
        try:
            address = ip_address(text.partition("/")[0])
        except ValueError:
            raise InvalidParameter(f"no matching subnet for {what} {text}") from None
        for place, net in enumerate(nets):
            if address in net:
                return made[place]
        raise InvalidParameter(f"no matching subnet for {what} {text}")

    for text in ranges:
        pool = home(text, "range")
        if "IPRange" in pool:
            raise InvalidParameter(
                f"cannot configure multiple ranges ({text}, {pool['IPRange']}) on the same subnet"
            )
        pool["IPRange"] = text
    for text in gateways:
        pool = home(text, "gateway")
        if "Gateway" in pool:
            raise InvalidParameter(
                f"cannot configure multiple gateways ({text}, {pool['Gateway']}) for the same subnet"
            )
        pool["Gateway"] = text
    for name, text in reserved.items():
        home(text, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = text
    return made


def rm(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    failed = False
    for name in asked.args:
        try:
            engine.remove_network(name)
        except SkiffError as error:
            if asked["force"] and isinstance(error, EngineError) and error.status == 404:
                continue
            session.err(str(error))
            failed = True
        else:
            print(name)
    return 1 if failed else 0


def prune(session: Session, asked: Parsed) -> int:
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    dry, filters = asked["dry-run"], wire(asked["filter"])
    if not dry and not asked["force"] and not agreed(session, warning):
        return 0
    engine = session.engine()
    reply = engine.prunable("networks", filters) if dry else engine.prune_networks(filters)
    gone = reply.get("NetworksDeleted")
    if gone:
        print("Would delete networks:" if dry else "Deleted Networks:")
        print("\n".join(gone) + "\n")
    return 0


def connect(session: Session, asked: Parsed) -> int:
    network, container = asked.args
    settings: Json = {
        "Links": asked["link"] or None,
        "Aliases": asked["alias"],
        "DriverOpts": pairs(asked["driver-opt"]),
        "GwPriority": asked["gw-priority"],
    }
    addresses = {
        "IPv4Address": asked["ip"],
        "IPv6Address": asked["ip6"],
        "LinkLocalIPs": asked["link-local-ip"],
    }
    settings["IPAMConfig"] = {name: value for name, value in addresses.items() if value}
    session.engine().connect_network(network, {"Container": container, "EndpointConfig": settings})
    return 0


def disconnect(session: Session, asked: Parsed) -> int:
    network, container = asked.args
    session.engine().disconnect_network(network, container, force=asked["force"])
    return 0


COMMANDS = {
    "network connect": Command(
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        connect,
        (
            ("alias", "", "csv", (), "Add network-scoped alias for the container"),
            ("driver-opt", "", "csv", (), "driver options for the network"),
            (
                "gw-priority",
                "",
                "int",
                0,
                "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
            ),
            ("ip", "", "string", "", 'IPv4 address (e.g., "172.30.100.104")'),
            ("ip6", "", "string", "", 'IPv6 address (e.g., "2001:db8::33")'),
            ("link", "", "list", (), "Add link to another container"),
            ("link-local-ip", "", "csv", (), "Add a link-local address for the container"),
        ),
        least=2,
        most=2,
    ),
    "network create": Command(
        "[OPTIONS] NETWORK",
        "Create a network",
        create,
        (
            ("attachable", "", "bool", False, "Enable manual container attachment"),
            ("aux-address", "", "map", (), "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
            ("config-from", "", "string", "", "The network from which to copy the configuration"),
            ("config-only", "", "bool", False, "Create a configuration only network"),
            ("driver", "d", "string", "bridge", "Driver to manage the Network"),
            ("egress", "", "string", "", "Where packets of its containers may go, as with run --egress"),
            ("gateway", "", "csv", (), "IPv4 or IPv6 Gateway for the master subnet"),
            ("ingress", "", "bool", False, "Create swarm routing-mesh network"),
            ("internal", "", "bool", False, "Restrict external access to the network"),
            ("ip-range", "", "csv", (), "Allocate container ip from a sub-range"),
            ("ipam-driver", "", "string", "default", "IP Address Management Driver"),
            ("ipam-opt", "", "map", (), "Set IPAM driver specific options"),
            ("ipv4", "", "bool", True, "Enable or disable IPv4 address assignment"),
            ("ipv6", "", "bool", False, "Enable or disable IPv6 address assignment"),
            ("label", "", "list", (), "Set metadata on a network"),
            ("opt", "o", "map", (), "Set driver specific options"),
            ("scope", "", "string", "", "Control the network's scope"),
            ("subnet", "", "csv", (), "Subnet in CIDR format that represents a network segment"),
        ),
        least=1,
        most=1,
    ),
    "network disconnect": Command(
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        disconnect,
        (("force", "f", "bool", False, "Force the container to disconnect from a network"),),
        least=2,
        most=2,
    ),
    "network ls": Command(
        "[OPTIONS]",
        "List networks",
        ls,
        (
            ("filter", "f", "filter", (), 'Provide filter values (e.g. "driver=bridge")'),
            FORMAT,
            ("no-trunc", "", "bool", False, "Do not truncate the output"),
            ("quiet", "q", "bool", False, "Only display network IDs"),
        ),
        most=0,
        kinds=KINDS,
        aliases=("network ls", "network list"),
    ),
    "network prune": Command(
        "[OPTIONS]", "Remove all unused networks", prune, (PRUNE_FILTER, FORCE, DRY_RUN), most=0, kinds=KINDS
    ),
    "network rm": Command(
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        rm,
        (("force", "f", "bool", False, "Do not error if the network does not exist"),),
        least=1,
        aliases=("network rm", "network remove"),
    ),
}
