"""The text of /etc/hosts, /etc/hostname and /etc/resolv.conf inside a container. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence

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


def resolv_conf(
    host: str,
    *,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    keep_loopback: bool = True,
) -> str:
    """resolv.conf(5): the host's, with what the container asks for in its place.

    keep_loopback: a resolver on the host's loopback is within reach. A search of `.` is none.
    """
    if not (servers or search or options) and keep_loopback:
        return host
    theirs: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in host.splitlines():
        key, *values = line.split() or [""]
        if key in ("search", "domain"):
            theirs["search"] = values
        elif key in theirs:
            theirs[key] += values
    used = list(servers) or [s for s in theirs["nameserver"] if keep_loopback or not _is_loopback(s)]
    domains = list(search) or theirs["search"]
    lines = [f"nameserver {server}" for server in used]
    if domains and domains != ["."]:
        lines.append("search " + " ".join(domains))
    if words := list(options) or theirs["options"]:
        lines.append("options " + " ".join(words))
    return "\n".join(lines) + "\n" if lines else ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
