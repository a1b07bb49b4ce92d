"""May an endpoint, or its egress policy, be as it is asked for? Pure."""

from ipaddress import ip_address

from skiff.docker.network import EndpointSettings
from skiff.engine.networks import egress
from skiff.engine.networks.record import PREDEFINED, Network
from skiff.errors import InvalidParameter

_OWN_NETWORKS_ONLY = "user specified IP address is supported on user defined networks only"
_OWN_SUBNETS_ONLY = (
    "user specified IP address is supported only when connecting to networks with user configured subnets"
)


def check_settings(network: Network, settings: EndpointSettings) -> None:
    """InvalidParameter in Docker's words, with everything that is wrong."""
    found = _problems(network, settings)
    if found:
        lines = found if len(found) == 1 else [f"* {problem}" for problem in found]
        said = "\n".join(lines)
        raise InvalidParameter(
            f"invalid config for network {network.name}: invalid endpoint settings:\n{said}"
        )


def _problems(network: Network, settings: EndpointSettings) -> list[str]:
    asked = settings.ipam_config
    wishes = [text for text in (asked.ipv4_address, asked.ipv6_address) if text] if asked else []
    if not wishes:
        return []
    if network.name in PREDEFINED:
        return [_OWN_NETWORKS_ONLY, _OWN_SUBNETS_ONLY]
    if not network.addressable:
        return [_OWN_SUBNETS_ONLY]
    found = []
    for text in wishes:
        try:
            address = ip_address(text)
        except ValueError:
            found.append(f"invalid IP address: {text}")
            continue
        if not any(address in stored.range().subnet for stored in network.ranges):
            found.append(f"no configured subnet or ip-range contain the IP address {text}")
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
