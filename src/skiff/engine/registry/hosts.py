"""Where a repository's registry is: scheme, mirrors, insecure registries. Pure.

Loopback speaks plain HTTP, the rest HTTPS; `insecure-registries` of daemon.json names exceptions,
`registry-mirrors` are asked first for docker.io.
"""

import ipaddress
from collections.abc import Sequence

from msgspec import Struct

from skiff.errors import InvalidParameter
from skiff.oci.reference import DEFAULT_DOMAIN

HUB = "https://registry-1.docker.io"
CERTIFICATES = ("/etc/docker/certs.d", "/etc/skiff/certs.d")


class Endpoint(Struct, frozen=True):
    """One place to ask. url: without a slash at the end. is_mirror: never gets the user's credentials.

    certificates: directories that may hold its authorities and our client certificates.
    """

    url: str
    verify: bool = True
    is_mirror: bool = False
    certificates: tuple[str, ...] = ()


class Hosts:
    """insecure: hosts, host:port or CIDR ranges. mirrors: URLs. InvalidParameter."""

    def __init__(self, *, insecure: Sequence[str] = (), mirrors: Sequence[str] = ()) -> None:
        self._hosts: set[str] = set()
        self._ranges: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in insecure:
            self._add(entry)
        self._mirrors = [_mirror(text) for text in mirrors]

    def endpoints(self, domain: str, *, insecure: bool = False) -> list[Endpoint]:
        """Where to ask for a repository of that domain, in order. insecure: as if it were listed so."""
        if domain == DEFAULT_DOMAIN:
            asked = [self._endpoint(*url.split("://", 1), is_mirror=True) for url in self._mirrors]
            return [*asked, Endpoint(HUB)]
        if is_loopback(domain):
            return [Endpoint(f"http://{domain}"), Endpoint(f"https://{domain}", verify=False)]
        if insecure or self.is_insecure(domain):
            return [Endpoint(f"https://{domain}", verify=False), Endpoint(f"http://{domain}")]
        return [self._endpoint("https", domain)]

    def is_insecure(self, domain: str) -> bool:
        """Whether that registry may lack a good certificate, or TLS altogether."""
        host = _host(domain)
        if domain in self._hosts or host in self._hosts or is_loopback(domain):
            return True
        address = _ip(host)
        return address is not None and any(address in one for one in self._ranges)

    def _endpoint(self, scheme: str, rest: str, *, is_mirror: bool = False) -> Endpoint:
        domain = rest.partition("/")[0]
        verify = not self.is_insecure(domain)
        return Endpoint(
            f"{scheme}://{rest}", verify, is_mirror, tuple(f"{one}/{domain}" for one in CERTIFICATES)
        )

    def _add(self, entry: str) -> None:
        if entry.startswith(("http://", "https://")):
            entry = entry.split("://", 1)[1].rstrip("/")
        try:
            self._ranges.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            if not entry or "/" in entry:
                raise InvalidParameter(
                    f"insecure registry {entry} is not valid: expected a host or a range of addresses"
                ) from None
            self._hosts.add(entry)
        else:
            if "/" not in entry:
                self._hosts.add(entry)


def is_loopback(domain: str) -> bool:
    """Whether that registry runs on this machine: localhost, 127.0.0.0/8, ::1."""
    host = _host(domain)
    address = _ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _host(domain: str) -> str:
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.rpartition(":")[0] if ":" in domain else domain


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _mirror(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("http", "https") or not rest.partition("/")[0] or "@" in rest:
        raise InvalidParameter(f"invalid mirror: {text!r} is not a valid URL: expected http(s)://host[:port]")
    return text.rstrip("/")
