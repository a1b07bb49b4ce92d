"""Host ports: which one a container gets, and a socket that keeps it from everybody else.

A published port is led to its container by the firewall; the socket bound here never hears a packet. It makes
the kernel refuse the port to other programs, and tells us when another program has it already.
"""

import errno
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import Final, NamedTuple

from skiff.docker.network import PortBinding
from skiff.errors import InvalidParameter, Unavailable

Address = IPv4Address | IPv6Address

FIRST_DYNAMIC: Final = 32768
LAST_DYNAMIC: Final = 60999
PROTOCOLS: Final = ("tcp", "udp", "sctp")
NOWHERE: Final[Mapping[int, Address]] = MappingProxyType({})


class Wish(NamedTuple):
    """A port to publish. host_ports: one, a range to choose from, or empty for any free one.

    direct: no port of the host's is wanted; the container's own is reached from outside.
    """

    protocol: str
    container_port: int
    host: Address
    host_ports: range
    direct: bool = False


class Claim(NamedTuple):
    """host_port: 0 for a direct wish."""

    protocol: str
    host: Address
    host_port: int
    container_port: int


def container_port(text: str) -> tuple[int, str]:
    """`80/tcp` → (80, "tcp"). InvalidParameter in Docker's words."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    return _port(number, text), protocol


def _port(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 <= int(text) <= 65535:
        raise InvalidParameter(f"invalid port specification: {whole!r}")
    return int(text)


def host_ports(text: str) -> range:
    """`8080`, `8000-8010`, or nothing."""
    if text in ("", "0"):
        return range(0)
    low, _, high = text.partition("-")
    first = _port(low, text)
    last = _port(high, text) if high else first
    if last < first:
        raise InvalidParameter(f"invalid range format for --expose: {text}")
    return range(first, last + 1)


def wishes(
    bindings: Mapping[str, Sequence[PortBinding] | None],
    everything: Iterable[str],
    default: Address,
    *,
    ipv6: bool,
    direct: Collection[int] = (),
) -> list[Wish]:
    """What HostConfig asks to publish; everything: the exposed ports with --publish-all, else nothing.

    A binding without an address is for all of IPv4, and with ipv6 for all of IPv6 too. direct: the address
    families in which containers are reached at their own addresses.
    """
    found: list[Wish] = []
    for key, asked in bindings.items():
        number, protocol = container_port(key)
        for binding in asked or ():
            for host in _hosts(binding.host_ip, default, ipv6=ipv6):
                wanted = host_ports(binding.host_port)
                found.append(Wish(protocol, number, host, wanted, host.version in direct))
    named = {(w.container_port, w.protocol) for w in found}
    for key in everything:
        number, protocol = container_port(key)
        if (number, protocol) not in named:
            found += [
                Wish(protocol, number, host, range(0), host.version in direct)
                for host in _hosts("", default, ipv6=ipv6)
            ]
    return found


def _hosts(text: str, default: Address, *, ipv6: bool) -> list[Address]:
    if text:
        try:
            return [ip_address(text.strip("[]"))]
        except ValueError:
            raise InvalidParameter(f"invalid IP address: {text}") from None
    if ipv6 and default.is_unspecified:
        return [default, IPv6Address(0)]
    return [default]


class PortAllocator:
    """The ports of this host that are ours now, each with its socket."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, Address, int], socket.socket] = {}
        self._next = FIRST_DYNAMIC

    def claim(self, wished: Iterable[Wish], inside: Mapping[int, Address] = NOWHERE) -> list[Claim]:
        """All of them or none. Unavailable in Docker's words when a port is taken.

        inside: the container's addresses by family, for those words.
        """
        claims: list[Claim] = []
        dynamic: dict[tuple[str, int], int] = {}  # one number for both families
        try:
            for wish in wished:
                if wish.direct:
                    claims.append(Claim(wish.protocol, wish.host, 0, wish.container_port))
                    continue
                same = dynamic.get((wish.protocol, wish.container_port))
                number = self._claim(wish, same, inside.get(wish.host.version) or inside.get(4))
                if len(wish.host_ports) != 1:
                    dynamic.setdefault((wish.protocol, wish.container_port), number)
                claims.append(Claim(wish.protocol, wish.host, number, wish.container_port))
        except BaseException:
            self.release(claims)
            raise
        return claims

    def _claim(self, wish: Wish, same: int | None, inside: Address | None) -> int:
        if len(wish.host_ports) == 1:
            number = wish.host_ports[0]
            holder = self._holder(wish.protocol, wish.host, number)
            if holder is not None:
                raise Unavailable(f"Bind for {_shown(holder)}:{number} failed: port is already allocated")
            try:
                self._bind(wish.protocol, wish.host, number)
            except OSError as error:
                raise _not_bound(wish, number, inside, error) from error
            return number
        candidates = [same] if same is not None else self._candidates(wish.host_ports)
        for number in candidates:
            if self._holder(wish.protocol, wish.host, number) is not None:
                continue
            try:
                self._bind(wish.protocol, wish.host, number)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise _not_bound(wish, number, inside, error) from error
                continue
            if not wish.host_ports:
                self._next = number + 1 if number < LAST_DYNAMIC else FIRST_DYNAMIC
            return number
        raise Unavailable("all ports are allocated")

    def _candidates(self, asked: range) -> Iterable[int]:
        if asked:
            return asked
        return [*range(self._next, LAST_DYNAMIC + 1), *range(FIRST_DYNAMIC, self._next)]

    def _holder(self, protocol: str, host: Address, number: int) -> Address | None:
        """Where the port is ours. An address and the unspecified one of its family exclude each other."""
        for p, h, n in self._sockets:
            if (p, n, h.version) == (protocol, number, host.version) and (
                h == host or h.is_unspecified or host.is_unspecified
            ):
                return h
        return None

    def _bind(self, protocol: str, host: Address, number: int) -> None:
        family = socket.AF_INET if host.version == 4 else socket.AF_INET6
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}[protocol]
        sock = socket.socket(family, kind, 132 if protocol == "sctp" else 0)
        try:
            if host.version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(host), number))
        except BaseException:
            sock.close()
            raise
        self._sockets[protocol, host, number] = sock

    def socket_of(self, claim: Claim) -> socket.socket | None:
        """The socket that holds a claimed port; None when another program took it while no engine ran."""
        return self._sockets.get((claim.protocol, claim.host, claim.host_port))

    def adopt(self, claims: Iterable[Claim]) -> list[Claim]:
        """After a restart: hold the ports of containers that run already. Returns those somebody took."""
        lost: list[Claim] = []
        for claim in claims:
            if not claim.host_port:
                continue
            try:
                self._bind(claim.protocol, claim.host, claim.host_port)
            except OSError:
                lost.append(claim)
        return lost

    def release(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            sock = self._sockets.pop((claim.protocol, claim.host, claim.host_port), None)
            if sock is not None:
                sock.close()

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()


def _not_bound(wish: Wish, number: int, inside: Address | None, error: OSError) -> Unavailable:
    where = f"{_shown(wish.host)}:{number}:{_shown(inside) if inside else ''}:{wish.container_port}"
    return Unavailable(f"failed to bind host port for {where}/{wish.protocol}: {_reason(error)}")


def _shown(host: Address) -> str:
    return f"[{host}]" if host.version == 6 else str(host)


def _reason(error: OSError) -> str:
    """Go's words for it, which clients know."""
    words = {
        errno.EADDRINUSE: "address already in use",
        errno.EADDRNOTAVAIL: "cannot assign requested address",
        errno.EACCES: "permission denied",
    }
    return words.get(error.errno or 0, (error.strerror or str(error)).lower())
