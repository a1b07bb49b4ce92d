"""What a container's resolv.conf says. Pure.

resolv.conf(5). On networks with a resolver of ours it names 127.0.0.11, and the host's servers stay with the
engine; elsewhere it repeats the host's, without servers that only the host can reach.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

PUBLIC_SERVERS: Final = ("8.8.8.8", "8.8.4.4")  # when nothing else is left: Docker's choice


class ResolvConf(NamedTuple):
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@lru_cache(8)
def parse(text: str) -> ResolvConf:
    """The lines that matter; the last `search` wins, as in the C library."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = tuple(words[1:])
        elif words[0] == "options":
            options += words[1:]
    return ResolvConf(tuple(servers), search, tuple(options))


def overridden(
    host: ResolvConf, servers: Sequence[str], search: Sequence[str], options: Sequence[str]
) -> ResolvConf:
    """The host's, with what the user asked for in its place. A search list of `.` means none."""
    return ResolvConf(
        tuple(servers) or host.servers,
        tuple(s for s in search if s != ".") if search else host.search,
        tuple(options) or host.options,
    )


def reachable(wanted: ResolvConf) -> ResolvConf:
    """Without servers on a loopback: in a container that is another one."""
    servers = tuple(s for s in wanted.servers if not _is_loopback(s))
    return wanted._replace(servers=servers or PUBLIC_SERVERS)


def through_resolver(wanted: ResolvConf, address: str) -> ResolvConf:
    """All questions go to our resolver; a bare name is tried as it is first: it may be a container's."""
    options = wanted.options
    if not any(o.startswith("ndots:") for o in options):
        options = (*options, "ndots:0")
    return ResolvConf((address,), wanted.search, options)


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def rendered(conf: ResolvConf) -> str:
    lines = [f"nameserver {server}" for server in conf.servers]
    if conf.search:
        lines.append("search " + " ".join(conf.search))
    if conf.options:
        lines.append("options " + " ".join(conf.options))
    return "".join(f"{line}\n" for line in lines)
