"""The text of /etc/hosts inside a container. Pure."""

import ipaddress
from collections.abc import Iterable

from skiff.errors import InvalidParameter

LOCALHOST = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


def hosts(entries: Iterable[tuple[str, str]], extra: Iterable[str] = (), gateway: str = "") -> str:
    """What /etc/hosts holds. entries: (address, names). extra: ExtraHosts, `name:address`."""
    lines = [f"{address}\t{names}" for address, names in LOCALHOST]
    for entry in extra:
        name, address = extra_host(entry)
        if address == "host-gateway":
            if not gateway:
                raise InvalidParameter("unable to derive the IP value for host-gateway")
            address = gateway
        lines.append(f"{address}\t{name}")
    lines += [f"{address}\t{names}" for address, names in entries]
    return "\n".join(lines) + "\n"


def extra_host(entry: str) -> tuple[str, str]:
    """(name, address) of `name:address` or `name=address`. InvalidParameter.

    `host-gateway` as an address stays as it is: only a network knows it.
    """
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found or not name:
        raise InvalidParameter(f'bad format for add-host: "{entry}"')
    bare = address.removeprefix("[").removesuffix("]")
    if bare == "host-gateway":
        return name, bare
    try:
        return name, str(ipaddress.ip_address(bare))
    except ValueError:
        raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
