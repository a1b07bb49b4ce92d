"""The bridge driver: one Linux bridge a network, one veth pair an endpoint."""

import errno
import os
from collections.abc import Collection, Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Final

from skiff.engine.networks.ipam import Address
from skiff.engine.networks.record import Endpoint, Network
from skiff.engine.networks.sandbox import Namespace
from skiff.engine.networks.settings import is_link_name, link_local, sysctls
from skiff.errors import Forbidden, InvalidParameter
from skiff.linux import links
from skiff.linux.netlink import Message, NetlinkSocket

PREFIX: Final = "com.docker.network.bridge."
NAME: Final = PREFIX + "name"
ICC: Final = PREFIX + "enable_icc"
MASQUERADE: Final = PREFIX + "enable_ip_masquerade"
HOST_BINDING: Final = PREFIX + "host_binding_ipv4"
DEFAULT_BRIDGE: Final = PREFIX + "default_bridge"
GATEWAY_MODES: Final = {4: PREFIX + "gateway_mode_ipv4", 6: PREFIX + "gateway_mode_ipv6"}
MODES: Final = ("nat", "nat-unprotected", "routed", "isolated")
INHIBIT_IPV4: Final = PREFIX + "inhibit_ipv4"
MTU: Final = "com.docker.network.driver.mtu"
INTERFACE_PREFIX: Final = "com.docker.network.container_iface_prefix"
_BOOLEANS: Final = (ICC, MASQUERADE, DEFAULT_BRIDGE, INHIBIT_IPV4)
_KNOWN: Final = {NAME, MTU, HOST_BINDING, INTERFACE_PREFIX, *GATEWAY_MODES.values(), *_BOOLEANS}
_TRUTHS: Final = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
_LIES: Final = ("0", "f", "F", "FALSE", "false", "False")


def enabled(network: Network, option: str, *, default: bool = True) -> bool:
    text = network.options.get(option, "")
    return default if not text else text in _TRUTHS


def in_mode(network: Network, mode: str) -> frozenset[int]:
    """The address families whose gateway is in that mode; `nat` when nothing is said."""
    return frozenset(v for v, key in GATEWAY_MODES.items() if (network.options.get(key) or "nat") == mode)


class BridgeDriver:
    name = "bridge"

    def __init__(self) -> None:
        self._netlink = NetlinkSocket()
        self._indices: dict[str, int] = {}

    def close(self) -> None:
        self._netlink.close()

    def check(self, network: Network) -> None:
        for key, value in network.options.items():
            if not key.startswith("com.docker.network."):
                continue
            if key not in _KNOWN:
                raise InvalidParameter(f"the bridge driver does not know the option {key}")
            reason = _complaint(key, value)
            if reason:
                raise InvalidParameter(f"failed to parse {key} value: {value} ({reason})")
        if in_mode(network, "isolated") and not network.internal:
            raise InvalidParameter("gateway mode 'isolated' can only be used for an internal network")
        if sum(s.range().subnet.version == 4 for s in network.ranges) > 1:
            raise Forbidden("bridge driver doesn't support multiple subnets")
        if not is_link_name(network.link):
            raise InvalidParameter(
                f"invalid bridge name {network.link!r}: expected 1–15 characters, no slash"
            )

    def link_name(self, id: str, options: dict[str, str]) -> str:
        return options.get(NAME) or f"br-{id[:12]}"

    def create(self, network: Network) -> None:
        index = self._index(network)
        wanted = [links.address(index, i) for i in gateways(network)]
        self._netlink.request(*wanted, links.up(index), what=network.link)
        self._switch_on_forwarding(network)

    def _index(self, network: Network) -> int:
        """The bridge's number, made when it is not there: a reboot takes bridges away."""
        found = links.find(self._netlink, network.link)
        if found is None:
            made = links.bridge(network.link, mac=bridge_mac(network.id), mtu=_mtu(network))
            self._netlink.request(made, what=network.link)
            found = links.find(self._netlink, network.link)
            if found is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), network.link)
        elif found.kind != "bridge":
            raise OSError(errno.EEXIST, f"a link of that name is no bridge but {found.kind}", network.link)
        self._indices[network.id] = found.number
        return found.number

    def _switch_on_forwarding(self, network: Network) -> None:
        links.raise_sysctl("ipv4/ip_forward")
        # So that 127.0.0.1 of the host can be led to a container; the ruleset guards the way back.
        links.raise_sysctl(f"ipv4/conf/{network.link}/route_localnet")
        if network.ipv6:
            links.raise_sysctl("ipv6/conf/all/forwarding")

    def delete(self, network: Network) -> None:
        self._indices.pop(network.id, None)
        found = links.find(self._netlink, network.link)
        if found is not None and found.kind == "bridge":
            self._netlink.request(links.deleted(found.number), what=network.link)

    def attach(
        self,
        network: Network,
        endpoint: Endpoint,
        namespace: Namespace,
        *,
        default: Collection[int],
        hairpin: bool,
    ) -> None:
        index = self._indices.get(network.id)
        if index is None:
            self.create(network)
            index = self._indices[network.id]
        pair = links.veth(
            endpoint.link,
            master=index,
            peer=endpoint.interface,
            peer_netns=namespace.descriptor,
            peer_mac=endpoint.mac,
            mtu=_mtu(network),
        )
        self._netlink.request(pair, what=endpoint.link)
        isolated = not enabled(network, ICC)
        if isolated or hairpin:
            port = links.number(self._netlink, endpoint.link)
            if port:
                wanted_port = links.bridge_port(port, isolated=isolated, hairpin=hairpin)
                self._netlink.request(wanted_port, what=endpoint.link)
        configure(network, endpoint, namespace, default=default)

    def detach(self, network: Network, endpoint: Endpoint, namespace: Namespace | None) -> None:
        with NetlinkSocket() as netlink:  # its own: the engine speaks to others meanwhile
            found = links.find(netlink, endpoint.link)
            if found is not None:
                netlink.request(links.deleted(found.number), what=endpoint.link)


def _complaint(key: str, value: str) -> str:
    """What is wrong with an option's value, in Docker's words where it has any."""
    if key in _BOOLEANS and value not in ("", *_TRUTHS, *_LIES):
        return f'strconv.ParseBool: parsing "{value}": invalid syntax'
    if key == MTU and not value.isdecimal():
        return f'strconv.Atoi: parsing "{value}": invalid syntax'
    if key == MTU and not 68 <= int(value) <= 65535:
        return "expected a number from 68 to 65535"
    if key == HOST_BINDING and not _is_ipv4(value):
        return "nil ip"
    if key in GATEWAY_MODES.values() and value not in MODES:
        return f"unknown gateway mode {value}"
    if key == INTERFACE_PREFIX and not is_link_name(f"{value}100"):
        return "expected the beginning of a link's name"
    return ""


def _is_ipv4(text: str) -> bool:
    try:
        return ip_address(text).version == 4
    except ValueError:
        return False


def configure(
    network: Network, endpoint: Endpoint, namespace: Namespace, *, default: Collection[int]
) -> None:
    """Give the endpoint's interface, which is there, its addresses and routes, and switch it on.

    That comes last, in one message: an interface that is up lacks nothing (sandboxes.is_complete).
    """
    number = links.number(namespace.netlink, endpoint.interface)
    if not number:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), endpoint.interface)
    wanted = [links.address(number, interface) for interface in endpoint.interfaces()]
    wanted += [links.address(number, address) for address in link_local(endpoint.settings)]
    wanted.append(links.up(number))
    wanted += default_routes(network, endpoint, default)
    for name, value in sysctls(endpoint.settings, endpoint.interface):
        namespace.set_sysctl(name, value)
    namespace.netlink.request(*wanted, what=endpoint.interface)


def default_routes(network: Network, endpoint: Endpoint, versions: Collection[int]) -> Iterator[Message]:
    """Through the network's gateway, for those families of which the endpoint has an address."""
    for stored in network.ranges:
        scope = stored.range()
        if scope.subnet.version in versions and endpoint.has(scope.subnet.version):
            yield links.route(None, gateway=scope.gateway)


def bridge_mac(network: str) -> str:
    """The MAC address of a network's bridge, from the network's id.

    Without one of its own a bridge takes that of a port, and another one when that port goes: those who have
    learned where the gateway is would speak to nobody.
    """
    return "02:" + bytes.fromhex(network[:10]).hex(":")


def gateways(network: Network) -> list[IPv4Interface | IPv6Interface]:
    """The bridge's own addresses."""
    absent = set(in_mode(network, "isolated"))
    if enabled(network, INHIBIT_IPV4, default=False):
        absent.add(4)
    ranges = [stored.range() for stored in network.ranges]
    return [
        _with_prefix(scope.gateway, scope.subnet.prefixlen)
        for scope in ranges
        if scope.subnet.version not in absent
    ]


def _with_prefix(address: Address, length: int) -> IPv4Interface | IPv6Interface:
    return ip_interface(f"{address}/{length}")


def _mtu(network: Network) -> int:
    text = network.options.get(MTU, "")
    return int(text) if text else 0
