"""-p, --expose and --network of `run`: text → the shapes of the Engine API. Pure."""

from __future__ import annotations

import _socket

from skiff.cli.flags import parse_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")


def is_ip(text: str) -> bool:
    return is_ipv4(text) or _is(_socket.AF_INET6, text)


def is_ipv4(text: str) -> bool:
    return _is(_socket.AF_INET, text)


def _is(family: int, text: str) -> bool:
    try:
        _socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def published(specs: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """-p flags → (ExposedPorts, PortBindings). Raises ValueError in Docker's words.

    [[ip:][hostPort[-last]]:]containerPort[-last][/tcp|udp|sctp], an IPv6 address in brackets; or
    target=80,published=8080,protocol=tcp,mode=host
    """
    exposed: dict[str, Any] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        for container, binding in _bindings(_short(spec) if "=" in spec else spec):
            exposed[container] = {}
            bindings.setdefault(container, []).append(binding)
    return exposed, bindings


def _short(spec: str) -> str:
    """The long form, written as the short one."""
    target = host = ""
    protocol = "tcp"
    for field in parse_csv(spec):
        key, equals, value = field.partition("=")
        if not equals or not value:
            raise ValueError(f"invalid field: {field}")
        match key.lower():
            case "target":
                target = value
            case "published":
                host = value
            case "protocol":
                protocol = value
            case "mode" if value in ("ingress", "host"):
                pass
            case "mode":
                raise ValueError(f"invalid publish mode value ({value}): must be either 'ingress' or 'host'")
            case _:
                raise ValueError(f"invalid field key: {key}")
    if not target:
        raise ValueError(f"missing mandatory field '--publish target' in '{spec}'")
    return f"{host}:{target}/{protocol}" if host else f"{target}/{protocol}"


def _bindings(spec: str) -> list[tuple[str, dict[str, str]]]:
    rest, _, protocol = spec.partition("/")
    protocol = protocol.lower() or "tcp"
    ip = ""
    if rest.startswith("["):
        ip, bracket, rest = rest[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError(f"invalid IP address: {spec}")
        rest = rest[1:]
        host, _, container = rest.rpartition(":")
    else:
        parts = rest.rsplit(":", 2)
        container = parts[-1]
        host = parts[-2] if len(parts) > 1 else ""
        ip = parts[0] if len(parts) > 2 else ""
    if ip and not is_ip(ip):
        raise ValueError(f"invalid IP address: {ip}")
    if not container:
        raise ValueError(f"no port specified: {spec}<empty>")
    first, last = _range(container, "containerPort")
    if protocol not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}")
    host_first, host_last = _range(host, "hostPort") if host else (0, 0)
    if host and last - first != host_last - host_first and (last != first):
        raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    found = []
    for offset in range(last - first + 1):
        if not host:
            chosen = ""
        elif first == last and host_first != host_last:
            chosen = f"{host_first}-{host_last}"  # the engine takes a free one of these
        else:
            chosen = str(host_first + offset)
        found.append((f"{first + offset}/{protocol}", {"HostIp": ip, "HostPort": chosen}))
    return found


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (_is_port(first) and _is_port(last)) or int(last) < int(first):
        raise ValueError(f"invalid {what}: {text}")
    return int(first), int(last)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 65535


def exposed(specs: Sequence[str]) -> dict[str, Any]:
    """--expose port[-port][/proto]."""
    found: dict[str, Any] = {}
    for spec in specs:
        if ":" in spec:
            raise ValueError(f"invalid port format for --expose: {spec}")
        ports, _, protocol = spec.partition("/")
        first, dash, last = ports.partition("-")
        last = last if dash else first
        for text in (first, last):
            if not (text.isascii() and text.isdigit()):
                reason = f'strconv.ParseUint: parsing "{text}": invalid syntax'
                raise ValueError(f"invalid range format for --expose: {spec}, error: {reason}")
            if int(text) > 65535:
                reason = f'strconv.ParseUint: parsing "{text}": value out of range'
                raise ValueError(f"invalid range format for --expose: {spec}, error: {reason}")
        if int(last) < int(first):
            reason = f"invalid range specified for port: {ports}"
            raise ValueError(f"invalid range format for --expose: {spec}, error: {reason}")
        if protocol.lower() not in ("", *PROTOCOLS):
            raise ValueError(f"invalid proto: {protocol}")
        for port in range(int(first), int(last) + 1):
            found[f"{port}/{protocol.lower() or 'tcp'}"] = {}
    return found


def network(text: str) -> dict[str, Any]:
    """--network NAME or
    name=…,alias=…,ip=…,ip6=…,mac-address=…,link-local-ip=…,driver-opt=K=V,gw-priority=N.
    """
    wish: dict[str, Any] = {
        "name": "",
        "aliases": [],
        "options": {},
        "ip": "",
        "ip6": "",
        "link-local": [],
        "mac": "",
        "gw": 0,
    }
    if "=" not in text.split(",", 1)[0]:
        wish["name"] = text
        return wish
    for field in parse_csv(text):
        key, equals, value = field.partition("=")
        key, value = key.strip().lower(), value.strip()
        if not equals or not value:
            raise ValueError(f"invalid field {field}")
        match key:
            case "name":
                wish["name"] = value
            case "alias":
                wish["aliases"].append(value)
            case "ip" | "ip6":
                wish[key] = value
            case "link-local-ip":
                wish["link-local"].append(value)
            case "mac-address":
                wish["mac"] = value
            case "gw-priority":
                try:
                    wish["gw"] = int(value)
                except ValueError:
                    raise ValueError(f"invalid gw-priority ({value}): invalid syntax") from None
            case "driver-opt":
                option, equals, chosen = value.partition("=")
                if not equals:
                    raise ValueError("invalid key value pair format in driver options")
                wish["options"][option.strip().lower()] = chosen.strip()
            case _:
                raise ValueError(f"invalid field key {key}")
    if not wish["name"]:
        raise ValueError("network name/id is not specified")
    return wish


def is_user_defined(mode: str) -> bool:
    return mode not in ("", "default", "bridge", "host", "none") and not mode.startswith("container:")


def is_mac(text: str) -> bool:
    parts = text.replace("-", ":").split(":")
    return len(parts) == 6 and all(len(p) == 2 and not p.strip("0123456789abcdefABCDEF") for p in parts)


def endpoints(
    wishes: Sequence[dict[str, Any]],
    *,
    aliases: Sequence[str],
    links: Sequence[str],
    ip: str,
    ip6: str,
    link_local: Sequence[str],
    mac: str,
) -> tuple[str, dict[str, Any]]:
    """(NetworkMode, EndpointsConfig): the single flags belong to the first network. Raises ValueError."""
    wishes = list(wishes) or [network("default")]
    first = wishes[0]
    for flag, given, key in (
        ("--network-alias", list(aliases), "aliases"),
        ("--ip", ip, "ip"),
        ("--ip6", ip6, "ip6"),
        ("--link-local-ip", list(link_local), "link-local"),
        ("--mac-address", mac, "mac"),
    ):
        if given and first[key]:
            raise ValueError(f"conflicting options: cannot specify both {flag} and per-network {key}")
        first[key] = given or first[key]
    found: dict[str, Any] = {}
    for wish in wishes:
        name = wish["name"]
        if not is_user_defined(name) and wish["aliases"]:
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if len(wishes) > 1 and not (is_user_defined(name) or name in ("default", "bridge")):
            raise ValueError(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
            )
        if name in found:
            raise ValueError(f'network "{name}" is specified multiple times')
        if wish["mac"] and not is_mac(wish["mac"]):
            raise ValueError(f"{wish['mac']} is not a valid mac address")
        config: dict[str, Any] = {}
        ipam = {"IPv4Address": wish["ip"], "IPv6Address": wish["ip6"], "LinkLocalIPs": wish["link-local"]}
        ipam = {key: value for key, value in ipam.items() if value}
        if ipam:
            config["IPAMConfig"] = ipam
        if wish["aliases"]:
            config["Aliases"] = wish["aliases"]
        if wish is first and links and is_user_defined(name):
            config["Links"] = list(links)
        if wish["mac"]:
            config["MacAddress"] = wish["mac"]
        if wish["options"]:
            config["DriverOpts"] = wish["options"]
        if wish["gw"]:
            config["GwPriority"] = wish["gw"]
        if config or is_user_defined(name) or len(wishes) > 1:
            found[name] = config
    return first["name"], found
