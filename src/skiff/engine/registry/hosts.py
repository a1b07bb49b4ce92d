"""Where a repository's registry is: scheme, mirrors, insecure registries. Pure.

Loopback speaks plain HTTP, the rest HTTPS; `insecure-registries` of daemon.json names exceptions. Mirrors are
asked first, in their order: `registry-mirrors` for docker.io, `mirrors` for any registry.

    https://cache.lan                     /v2/library/busybox/…
    https://cache.lan/quay                /v2/quay/library/busybox/…          a path is where the copies are
    https://art.lan/api/docker/v2/quay    /api/docker/v2/quay/library/…       one with /v2 says where that is
    https://cache.lan/{registry}          the registry's name: for the mirrors of "*", all that name none
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from skiff.errors import InvalidParameter
from skiff.oci.reference import DEFAULT_DOMAIN

HUB = "https://registry-1.docker.io"
_MIRROR = re.compile(r"https?://[^/?#@\s{}]+(?:/(?:[^?#@\s{}]|\{registry\})*)?")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
CERTIFICATES = ("/etc/docker/certs.d", "/etc/skiff/certs.d")


class Endpoint(Struct, frozen=True):
    """One place to ask. url: without a slash at the end. is_mirror: never gets the user's credentials.

    prefix: what stands before every repository's path there, with a slash at its end.
    certificates: directories that may hold its authorities and our client certificates.
    """

    url: str
    verify: bool = True
    is_mirror: bool = False
    certificates: tuple[str, ...] = ()
    prefix: str = ""


class Hosts:
    """insecure: hosts, host:port or CIDR ranges. InvalidParameter.

    mirrors: URLs for docker.io. mirrors_of: registry → URLs; "*" for those that are not named.
    """

    def __init__(
        self,
        *,
        insecure: Sequence[str] = (),
        mirrors: Sequence[str] = (),
        mirrors_of: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._hosts: set[str] = set()
        self._ranges: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in insecure:
            self._add(entry)
        self._mirrors = {
            _registry(name): [_mirror(text) for text in urls] for name, urls in (mirrors_of or {}).items()
        }
        if mirrors:
            own = [_mirror(text) for text in mirrors]
            self._mirrors[DEFAULT_DOMAIN] = own + self._mirrors.get(DEFAULT_DOMAIN, [])

    def endpoints(self, domain: str, *, insecure: bool = False) -> list[Endpoint]:
        """Where to ask for a repository of that domain, in order. insecure: as if it were listed so."""
        asked = [self._mirrored(url, domain) for url in self._mirrors.get(domain, self._mirrors.get("*", []))]
        return [*asked, *self._own(domain, insecure=insecure)]

    def _own(self, domain: str, *, insecure: bool) -> list[Endpoint]:
        if domain == DEFAULT_DOMAIN:
            return [Endpoint(HUB)]
        if is_loopback(domain):
            return [Endpoint(f"http://{domain}"), Endpoint(f"https://{domain}", verify=False)]
        if insecure or self.is_insecure(domain):
            return [Endpoint(f"https://{domain}", verify=False), Endpoint(f"http://{domain}")]
        return [self._endpoint(f"https://{domain}")]

    def is_insecure(self, domain: str) -> bool:
        """Whether that registry may lack a good certificate, or TLS altogether."""
        host = _host(domain)
        if domain in self._hosts or host in self._hosts or is_loopback(domain):
            return True
        address = _ip(host)
        return address is not None and any(address in one for one in self._ranges)

    def _mirrored(self, mirror: str, domain: str) -> Endpoint:
        mirror = mirror.replace("{registry}", domain)
        scheme, _, rest = mirror.partition("://")
        host, _, path = rest.partition("/")
        before, version, after = f"/{path}/".partition("/v2/")
        base, prefix = (before, after) if version else ("", f"{path}/")
        where = self._endpoint(f"{scheme}://{host}{base.rstrip('/')}")
        return replace(where, is_mirror=True, prefix=prefix.lstrip("/"))

    def _endpoint(self, url: str) -> Endpoint:
        domain = url.split("/")[2]
        certificates = tuple(f"{one}/{domain}" for one in CERTIFICATES)
        return Endpoint(url, not self.is_insecure(domain), certificates=certificates)

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
    if not _MIRROR.fullmatch(text):
        raise InvalidParameter(
            f'invalid mirror: "{text}": expected http:// or https:// and a host, without user or query'
        )
    return text.rstrip("/")


def _registry(text: str) -> str:
    """A registry as references name it, or "*". InvalidParameter."""
    if text == "index.docker.io":
        return DEFAULT_DOMAIN
    if text != "*" and not _DOMAIN.fullmatch(text):
        raise InvalidParameter(f"invalid registry {text!r} of a mirror: expected host[:port] or *")
    return text
