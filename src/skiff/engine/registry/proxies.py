"""Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as Go programs read them. Pure.

no_proxy := entry ("," entry)*      entry := "*" | range | host [":" port]
    `example.org` spares itself and what is below it, `.example.org` only what is below; `10.0.0.0/8` spares
    addresses. This machine is never reached through a proxy.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from skiff.errors import InvalidParameter

_PORTS = {"http": 80, "https": 443}


class Proxies(Struct, frozen=True):
    """http, https: URLs, or host:port; empty: none."""

    http: str = ""
    https: str = ""
    no_proxy: str = ""

    def of(self, url: str) -> str:
        """The proxy's URL for a request to that URL, empty for none."""
        parts = urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        host = (parts.hostname or "").rstrip(".")
        if not proxy or not host or self._spares(host, parts.port or _PORTS.get(parts.scheme, 0)):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    def _spares(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        for entry in self.no_proxy.split(","):
            entry = entry.strip().lower()
            if entry == "*" or (entry and _fits(entry, host.lower(), port, address)):
                return True
        return False


def from_environment(environment: Mapping[str, str]) -> Proxies:
    """What the usual variables say; the lower-case ones are read where the upper-case ones are not set."""

    def value(name: str) -> str:
        return environment.get(name) or environment.get(name.lower()) or ""

    return Proxies(value("HTTP_PROXY"), value("HTTPS_PROXY"), value("NO_PROXY"))


def checked(url: str) -> str:
    """The URL of a proxy. InvalidParameter, without the password that may be in it."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidParameter(f"invalid proxy {masked(url)!r}: expected http(s)://host:port")
    return url


def masked(url: str) -> str:
    """The URL without its user and password, as people may see it."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if "@" not in parts.netloc:
        return url
    shown = parts._replace(netloc="xxxxx:xxxxx@" + parts.netloc.rpartition("@")[2])
    return urlunsplit(shown)


def _fits(
    entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    try:
        spared = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in spared
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdecimal():
        if int(wanted) != port:
            return False
        entry = name.strip("[]")
    entry = entry.removeprefix("*")
    if entry.startswith("."):
        return host.endswith(entry)
    return host == entry or host.endswith(f".{entry}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
