"""May an endpoint, or its egress policy, be as it is asked for? And what its driver options ask. Pure."""

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Final

from skiff.docker.network import EndpointSettings
from skiff.engine.networks import egress
from skiff.engine.networks.record import PREDEFINED, Network
from skiff.errors import InvalidParameter

_OWN_NETWORKS_ONLY = "user specified IP address is supported on user defined networks only"
_OWN_SUBNETS_ONLY = (
    "user specified IP address is supported only when connecting to networks with user configured subnets"
)
_ENDPOINT: Final = "com.docker.network.endpoint."
INTERFACE: Final = _ENDPOINT + "ifname"
SYSCTLS: Final = _ENDPOINT + "sysctls"
_SYSCTL: Final = re.compile(r"net\.([a-z0-9_]+\.[a-z0-9_]+)\.IFNAME\.([a-z0-9_]+)=(.+)", re.IGNORECASE)
_MAC: Final = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_LINK_NAME: Final = re.compile(r"[^/:\s]{1,15}")
_LINK_LOCAL_PREFIX: Final = {4: 16, 6: 64}


def check_settings(network: Network, settings: EndpointSettings) -> None:
    """InvalidParameter in Docker's words, with everything that is wrong."""
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise InvalidParameter(f"invalid MAC address {settings.mac_address}")
    found = _problems(network, settings)
    if found:
        lines = found if len(found) == 1 else [f"* {problem}" for problem in found]
        raise InvalidParameter("invalid endpoint settings:\n" + "\n".join(lines))


def _problems(network: Network, settings: EndpointSettings) -> list[str]:
    return [*_address_problems(network, settings), *_option_problems(settings.driver_opts or {})]


def _address_problems(network: Network, settings: EndpointSettings) -> list[str]:
    asked = settings.ipam_config
    wishes = {4: asked.ipv4_address, 6: asked.ipv6_address} if asked else {}
    wishes = {version: text for version, text in wishes.items() if text}
    if not wishes:
        return []
    if network.name in PREDEFINED:
        return [_OWN_NETWORKS_ONLY, _OWN_SUBNETS_ONLY]
    found = []
    for version, text in wishes.items():
        scopes = [stored.range() for stored in network.ranges]
        subnets = [scope.subnet for scope in scopes if scope.subnet.version == version]
        address = None
        try:
            address = ip_address(text)  # type: ignore[arg-type]
        except ValueError:
            found.append(f"invalid IPv{version} address: {text}")
        if not network.addressable or not subnets:
            found.append(_OWN_SUBNETS_ONLY)
        elif address is None or not any(address in subnet for subnet in subnets):
            found.append(f"no configured subnet or ip-range contain the IP address {text}")
    return found


def _option_problems(options: dict[str, str]) -> list[str]:
    found = []
    for key, value in options.items():
        if key == INTERFACE and not is_link_name(value):
            found.append(f"invalid interface name {value!r}: expected 1-15 characters, no slash")
        elif key == SYSCTLS:
            bad = [text for text in value.split(",") if not _SYSCTL.fullmatch(text)]
            found += [f"invalid sysctl {text!r}: expected net.X.Y.IFNAME.Z=V" for text in bad]
        elif key.startswith(_ENDPOINT) and key != INTERFACE:
            found.append(f"the option {key} is not known")
    return found


def is_link_name(text: str) -> bool:
    return bool(_LINK_NAME.fullmatch(text)) and text not in (".", "..")


def check_link_local(settings: EndpointSettings) -> None:
    """InvalidParameter in Docker's words, at the start of a container."""
    for text in _link_local_texts(settings):
        try:
            fine = ip_address(text).is_link_local
        except ValueError:
            fine = False
        if not fine:
            raise InvalidParameter(f"invalid link local IP address: {text}")


def link_local(settings: EndpointSettings) -> list[IPv4Interface | IPv6Interface]:
    """Further addresses of the interface, with their prefix."""
    found = [ip_address(text) for text in _link_local_texts(settings)]
    return [ip_interface((address, _LINK_LOCAL_PREFIX[address.version])) for address in found]


def _link_local_texts(settings: EndpointSettings) -> tuple[str, ...]:
    asked = settings.ipam_config
    return (asked.link_local_ips or ()) if asked else ()


def sysctls(settings: EndpointSettings, interface: str) -> list[tuple[str, str]]:
    """(path below /proc/sys/net, value) of what the endpoint's options set for its interface."""
    text = (settings.driver_opts or {}).get(SYSCTLS, "")
    found = []
    for match in map(_SYSCTL.fullmatch, text.split(",") if text else ()):
        if match is not None:
            found.append((f"{match[1].replace('.', '/')}/{interface}/{match[2]}", match[3]))
    return found


def policy(network: Network, asked: str) -> str:
    """The egress policy of an endpoint: its container's own, or else its network's. InvalidParameter."""
    text = asked or network.options.get(egress.OPTION, "")
    if egress.restricts(text) and network.driver != "bridge":
        raise InvalidParameter(
            f"an egress policy cannot be kept on network {network.name}: "
            f"packets on a {network.driver} network do not pass this host's bridges"
        )
    return text
