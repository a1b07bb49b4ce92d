"""What the kernel holds of an engine's networks, compared with what the engine says of them."""

import json
import os
import sys
from ipaddress import ip_address
from typing import Any

from skiff.linux.nftables import padded
from tests.integration.engines import Engine, wait_for

ELEMENTS = """
import json, sys
from skiff.linux.nftables import Nftables, name_of
nftables = Nftables()
print(json.dumps([
    [[name_of(key) for key, _ in nftables.elements(table, "bridges")],
     [[key.hex(), data.hex()] for key, data in nftables.elements(table, "pub4_any")]]
    for table in sys.argv[1:]
]))
"""
NAME = "com.docker.network.bridge.name"
SYSCTLS = "com.docker.network.endpoint.sysctls"
TCP = 6


def agrees(engine: Engine, when: str = "") -> None:
    """Links, their addresses and routes, the firewall's sets and maps: those of the records, no others."""
    networks, containers = _networks(engine), _running(engine)
    bridged = [n for n in networks if n["Driver"] == "bridge"]
    names = {n["Id"]: n["Options"].get(NAME) or f"br-{n['Id'][:12]}" for n in bridged}
    default = next(names[n["Id"]] for n in bridged if n["Name"] == "bridge")
    wait_for(
        lambda: not _odd_veths(engine, names, bridged),
        5,
        lambda: f"{when}: {_odd_veths(engine, names, bridged)}",
    )
    links = {link["ifname"]: link for link in _ip(engine, "-d", "addr")}
    bridges = {name for name, link in links.items() if link.get("linkinfo", {}).get("info_kind") == "bridge"}
    assert bridges | {default} == set(names.values()), when
    for network in bridged:
        if (link := links.get(names[network["Id"]])) is not None:
            gateways = {config["Gateway"] for config in network["IPAM"]["Config"]}
            assert {a["local"] for a in link["addr_info"] if a["scope"] == "global"} == gateways, when
    used = sorted(names[n["Id"]] for n in bridged if n["Containers"])
    published = sorted(binding for container in containers for binding in _published(container))
    assert _firewall(engine) == ([[used, published]] if used else []), when
    keys = {os.path.basename(container["NetworkSettings"]["SandboxKey"]) for container in containers}
    assert set(os.listdir(f"{engine.root}/run/netns")) <= keys, when
    for container in containers:
        _inside_agrees(engine, container, when)


def _networks(engine: Engine) -> list[dict[str, Any]]:
    listed = engine.client.get("/networks").json()
    return [engine.client.get(f"/networks/{n['Id']}").json() for n in listed]


def _running(engine: Engine) -> list[dict[str, Any]]:
    listed = engine.client.get("/containers/json").json()
    return [engine.client.get(f"/containers/{c['Id']}/json").json() for c in listed]


def _ip(engine: Engine, *words: str, pid: int = 0) -> list[dict[str, Any]]:
    enter = ("nsenter", f"--net=/proc/{pid}/ns/net") if pid else ()
    found: list[dict[str, Any]] = json.loads(engine.run(*enter, "ip", "-j", *words).ok())
    return found


def _odd_veths(engine: Engine, names: dict[str, str], bridged: list[dict[str, Any]]) -> list[str]:
    """Networks that have more links than containers, or fewer. What a crash left goes a little later."""
    veths = [
        link for link in _ip(engine, "-d", "link") if link.get("linkinfo", {}).get("info_kind") == "veth"
    ]
    found = [f"{v['ifname']} is on no bridge" for v in veths if v.get("master") not in names.values()]
    for network in bridged:
        on = [v["ifname"] for v in veths if v.get("master") == names[network["Id"]]]
        if len(on) != len(network["Containers"]):
            found.append(f"{network['Name']}: {on} for {list(network['Containers'])}")
    return found


def _firewall(engine: Engine) -> list[list[list[Any]]]:
    tables = [line.split()[-1] for line in engine.run("nft", "list", "tables").ok().splitlines()]
    held = json.loads(engine.run(sys.executable, "-c", ELEMENTS, *tables).ok())
    return [[sorted(bridges), sorted(ports)] for bridges, ports in held]


def _published(container: dict[str, Any]) -> list[list[str]]:
    """The elements of the firewall's map for the ports that inspect shows."""
    found = []
    for key, bindings in container["NetworkSettings"]["Ports"].items():
        for binding in bindings or ():
            if binding["HostIp"] == "0.0.0.0":
                host, inside = int(binding["HostPort"]), int(key.partition("/")[0])
                address = ip_address(_way_out(container)["IPAddress"]).packed
                data = padded(address, inside.to_bytes(2, "big"))
                found.append([padded(bytes([TCP]), host.to_bytes(2, "big")).hex(), data.hex()])
    return found


def _way_out(container: dict[str, Any]) -> dict[str, Any]:
    """Of several networks that are equal the first by name."""
    networks: dict[str, dict[str, Any]] = container["NetworkSettings"]["Networks"]
    return networks[min(networks)]


def _inside_agrees(engine: Engine, container: dict[str, Any], when: str) -> None:
    pid = container["State"]["Pid"]
    links = [link for link in _ip(engine, "addr", pid=pid) if link["ifname"] != "lo"]
    networks = container["NetworkSettings"]["Networks"]
    wanted = sorted((e["IPAddress"], e["MacAddress"]) for e in networks.values())
    assert (
        sorted(
            (a["local"], link["address"])
            for link in links
            for a in link["addr_info"]
            if a["scope"] == "global"
        )
        == wanted
    ), when
    assert all("UP" in link["flags"] for link in links), when
    for endpoint in networks.values():
        (name,) = (link["ifname"] for link in links if link["address"] == endpoint["MacAddress"])
        for sysctl in filter(None, ((endpoint["DriverOpts"] or {}).get(SYSCTLS) or "").split(",")):
            key, _, value = sysctl.replace("IFNAME", name).partition("=")
            path = f"/proc/sys/{key.replace('.', '/')}"
            assert engine.run("nsenter", f"--net=/proc/{pid}/ns/net", "cat", path).ok() == value, when
    routes = [route["gateway"] for route in _ip(engine, "route", pid=pid) if route["dst"] == "default"]
    assert routes == ([_way_out(container)["Gateway"]] if networks else []), when
