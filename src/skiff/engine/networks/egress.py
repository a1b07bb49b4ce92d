"""Where may a container send packets? What a user allows, and what of it is an address already. Pure.

policy      := "all" | "none" | destination ("," destination)*
destination := (name | "*." name | address | range) [":" port]        [address]:port in IPv6

A name allows the addresses that the resolver finds for it, `*.name` those of all names below it, but not its
own. Names of containers are known from the records: they need no question. A port means TCP, UDP and SCTP;
without one every protocol may pass.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Final, NamedTuple

from skiff.engine.networks.ipam import Address
from skiff.engine.networks.ipam import Network as Subnet
from skiff.errors import InvalidParameter

ALL: Final = "all"
NONE: Final = "none"
OPTION: Final = "skiff.egress"  # of a network, and the label of a container
EVERY_PORT: Final = 0
LEAST_SECONDS: Final = 2  # for answers that must not be kept: the program connects right away
MOST_SECONDS: Final = 86400

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(
    rf"(\*\.)?({_LABEL}\.)*(?![0-9]+\.?$){_LABEL}\.?"
)  # a number at the end: an address
_CACHED: Final = 1024


class Policy(NamedTuple):
    """open: whatever it is. names: (name, port) in lower case; below: the same for names under it."""

    open: bool = False
    names: tuple[tuple[str, int], ...] = ()
    below: tuple[tuple[str, int], ...] = ()
    ranges: tuple[tuple[Subnet, int], ...] = ()

    def ports(self, name: str) -> tuple[int, ...]:
        """Those at which the name's addresses may be spoken to; none when it is not allowed."""
        bare = name.lower().rstrip(".")
        found = {port for allowed, port in self.names if allowed == bare}
        found.update(port for parent, port in self.below if bare.endswith(f".{parent}"))
        return (EVERY_PORT,) if EVERY_PORT in found else tuple(sorted(found))


@lru_cache(_CACHED)
def parse(text: str) -> Policy:
    """InvalidParameter for what is no policy. Empty: nothing is kept back."""
    words = [word.strip() for word in text.split(",")]
    if words in ([""], [ALL]):
        return Policy(open=True)
    if words == [NONE]:
        return Policy()
    names: list[tuple[str, int]] = []
    below: list[tuple[str, int]] = []
    ranges: list[tuple[Subnet, int]] = []
    for word in words:
        host, port = _split(word)
        try:
            ranges.append((ip_network(host), port))
            continue
        except ValueError:
            pass
        if "/" in host or not _NAME.fullmatch(host) or host in (ALL, NONE) or len(host) > 253:
            raise InvalidParameter(
                f"invalid egress destination {word!r}: expected NAME[:PORT], *.NAME[:PORT], "
                "an address or a range, or all or none alone"
            )
        bare = host.rstrip(".")
        if bare.startswith("*."):
            below.append((bare[2:], port))
        else:
            names.append((bare, port))
    return Policy(False, tuple(names), tuple(below), tuple(ranges))


def _split(word: str) -> tuple[str, int]:
    """(host in lower case, port or EVERY_PORT)."""
    host, colon, port = word.lower().rpartition(":")
    if word.startswith("["):
        host, bracket, rest = word.lower()[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidParameter(f"invalid egress destination {word!r}: a bracket is missing")
        if not rest:
            return host, EVERY_PORT
    elif not colon or ":" in host:  # no port, or an address of IPv6
        return word.lower(), EVERY_PORT
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InvalidParameter(f"invalid egress destination {word!r}: invalid port {port!r}")
    return host, int(port)


def restricts(text: str) -> bool:
    return not parse(text).open


class Pass(NamedTuple):
    """Packets from the link to that range may go. port: or EVERY_PORT."""

    link: str
    range: Subnet
    port: int


def passes(
    link: str, policy: Policy, neighbours: Iterable[tuple[Sequence[str], Sequence[Address]]]
) -> list[Pass]:
    """What may pass without a question: ranges, and (names, addresses) of containers. None overlaps."""
    wanted: dict[int, list[Subnet]] = {}
    for subnet, port in policy.ranges:
        wanted.setdefault(port, []).append(subnet)
    for names, addresses in neighbours:
        for port in {port for name in names for port in policy.ports(name)}:
            wanted.setdefault(port, []).extend(ip_network(address) for address in addresses)
    found: list[Pass] = []
    for port, subnets in sorted(wanted.items()):
        four = collapse_addresses(s for s in subnets if isinstance(s, IPv4Network))
        six = collapse_addresses(s for s in subnets if isinstance(s, IPv6Network))
        found += [Pass(link, subnet, port) for subnet in four]
        found += [Pass(link, subnet, port) for subnet in six]
    return found


def seconds(ttl: int) -> int:
    """How long an answer opens the way."""
    return min(max(ttl, LEAST_SECONDS), MOST_SECONDS)


def is_elsewhere(address: Address) -> bool:
    """May an answer of somebody's server open it? Not what only this machine's link or loopback is.

    Cloud metadata services are at 169.254.169.254: they must be allowed as the address they are.
    """
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return is_elsewhere(ip_address(mapped))
    return not (
        address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    )
