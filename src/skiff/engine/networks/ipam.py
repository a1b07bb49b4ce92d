"""Which address? Pools of subnets and the addresses in them. Pure.

A network takes its subnet from what the user asks for, or the next free one of the default pools; an endpoint
takes the address it asks for, or the first free one.
"""

from collections.abc import Collection, Container, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from skiff.errors import Conflict, Forbidden, InvalidParameter

RANGES_KEPT: Final = 1024  # of which the unusable addresses are remembered
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Pool(NamedTuple):
    """Where subnets are cut from, and their prefix length. Docker: default-address-pools."""

    base: Network
    size: int


# The same private ranges as Docker's, so that habits and firewalls written for it fit.
DEFAULT_POOLS: Final = (
    Pool(IPv4Network("172.17.0.0/16"), 16),
    Pool(IPv4Network("172.18.0.0/16"), 16),
    Pool(IPv4Network("172.19.0.0/16"), 16),
    Pool(IPv4Network("172.20.0.0/14"), 16),
    Pool(IPv4Network("172.24.0.0/14"), 16),
    Pool(IPv4Network("172.28.0.0/14"), 16),
    Pool(IPv4Network("192.168.0.0/16"), 20),
)


class Range(NamedTuple):
    """One IPAM config of a network, complete. within: addresses are given from this part of the subnet."""

    subnet: Network
    gateway: Address
    within: Network
    reserved: tuple[Address, ...] = ()  # auxiliary addresses: kept for hosts that are no containers


def unique_local(engine_id: str) -> Pool:
    """A pool of IPv6 subnets of this engine's own: fd00::/8 and 40 bits of its id. RFC 4193 § 3.1."""
    global_id = int.from_bytes(engine_id.encode().ljust(5, b"\0")[:5], "big")
    return Pool(IPv6Network(((0xFD << 120) | (global_id << 80), 48)), 64)


def next_subnet(pools: Iterable[Pool], taken: Collection[Network], *, version: int = 4) -> Network:
    """The first subnet of the pools that overlaps nothing taken (other networks, routes of the host).

    Conflict when all are: Docker's words.
    """
    for pool in pools:
        if pool.base.version != version:
            continue
        for subnet in _subnets(pool, taken):
            return subnet
    raise Conflict("all predefined address pools have been fully subnetted")


def _subnets(pool: Pool, taken: Collection[Network]) -> Iterator[Network]:
    """Free subnets; whole runs behind a larger taken network are stepped over, not tried one by one."""
    step = 1 << (pool.base.max_prefixlen - pool.size)
    at = int(pool.base.network_address)
    end = at + pool.base.num_addresses
    kin = [net for net in taken if net.version == pool.base.version]
    while at < end:
        subnet = ip_network((at, pool.size))
        blocking = max((_last(net) for net in kin if overlap(net, subnet)), default=None)
        if blocking is None:
            yield subnet
            at += step
        else:
            at = max(at + step, (blocking // step + 1) * step)


def _last(network: Network) -> int:
    return int(network.broadcast_address)


def overlap(one: Network, other: Network) -> bool:
    return (
        one.version == other.version
        and int(one.network_address) <= _last(other)
        and int(other.network_address) <= _last(one)
    )


def complete(subnet: str, gateway: str = "", ip_range: str = "", auxiliary: Iterable[str] = ()) -> Range:
    """A Range from what the user wrote; the gateway defaults to the subnet's first address.

    InvalidParameter in Docker's words when the parts do not fit together.
    """
    net = parse_subnet(subnet)
    within = net
    if ip_range:
        within = parse_subnet(ip_range)
        check_host_bits(ip_range, "ip-range")
        if within.version != net.version or not _inside(within, net):
            raise _outside(f"ip-range {ip_range}", subnet, "ip-range")
    door = parse_address(gateway.partition("/")[0], "gateway") if gateway else first_host(net)
    if door not in net:
        raise _outside(f"gateway {gateway}", subnet)
    reserved = tuple(parse_address(text, "auxiliary") for text in auxiliary)
    for address in reserved:
        if address not in net:
            raise _outside(f"auxiliary address {address}", subnet)
    return Range(net, door, within, reserved)


def _outside(what: str, subnet: str, missing: str = "this address") -> InvalidParameter:
    return InvalidParameter(
        f"invalid network config:\ninvalid {what}: parent subnet {subnet} doesn't contain {missing}"
    )


def _inside(inner: Network, outer: Network) -> bool:
    return inner.network_address in outer and inner.broadcast_address in outer


def first_host(network: Network) -> Address:
    if network.num_addresses <= 2:
        return network.network_address
    return network.network_address + 1


def parse_subnet(text: str) -> Network:
    """The network that an address and a prefix length are of. InvalidParameter in Docker's words."""
    try:
        if "/" not in text:
            raise ValueError
        return ip_network(text, strict=False)
    except ValueError:
        raise InvalidParameter(
            f"invalid network config:\ninvalid subnet {text}: invalid CIDR block notation"
        ) from None


def check_host_bits(text: str, what: str = "subnet") -> None:
    """InvalidParameter when a subnet, or part of one, names an address inside it."""
    net = parse_subnet(text)
    if ip_address(text.partition("/")[0]) != net.network_address:
        raise InvalidParameter(f"invalid network config:\ninvalid {what} {text}: it should be {net}")


def parse_address(text: str, what: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidParameter(f"invalid {what} address {text}") from None


@lru_cache(RANGES_KEPT)
def _unusable(scope: Range) -> frozenset[int]:
    """The gateway, auxiliary addresses, the network's own and IPv4's broadcast."""
    unusable = {int(scope.gateway), *(int(a) for a in scope.reserved)}
    if scope.subnet.num_addresses > 2:
        unusable.add(int(scope.subnet.network_address))
        if scope.subnet.version == 4:
            unusable.add(_last(scope.subnet))
    return frozenset(unusable)


def reserve(scope: Range, taken: Container[int], wish: Address | None = None) -> Address:
    """An address for an endpoint: the wish, or the first free one. taken: addresses in use, as numbers.

    Forbidden when the wish is in use or outside; Conflict when none is left: Docker's words.
    """
    unusable = _unusable(scope)
    if wish is not None:
        if wish not in scope.subnet:
            raise InvalidParameter(
                f"invalid address {wish}: It does not belong to any of this network's subnets"
            )
        if int(wish) in taken or int(wish) in unusable:
            raise Forbidden("Address already in use")
        return wish
    for at in range(int(scope.within.network_address), _last(scope.within) + 1):
        if at not in unusable and at not in taken:
            return IPv4Address(at) if scope.subnet.version == 4 else IPv6Address(at)
    raise Conflict(f"no available IPv{scope.subnet.version} addresses on this network's address pools")


def mac_for(address: IPv4Address) -> str:
    """The MAC address that Docker gives an endpoint of this address: 02:42 and its four bytes."""
    return "02:42:" + address.packed.hex(":")
