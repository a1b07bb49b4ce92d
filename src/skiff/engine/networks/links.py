"""Legacy links: what a container on the default bridge learns of another. Pure.

link := target [":" alias]      the alias defaults to the target's name
"""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from skiff.engine.networks.ports import container_port
from skiff.errors import InvalidParameter

# Of the target's environment these say nothing about its service.
PRIVATE: Final = ("HOME", "PATH")


class Target(Struct, frozen=True):
    """The linked container. exposed: its ports, `27017/tcp`. env: `NAME=value`."""

    id: str
    name: str
    hostname: str
    address: str
    exposed: tuple[str, ...]
    env: tuple[str, ...]


def parse(text: str) -> tuple[str, str]:
    """(target, alias). Inspect's form, `/target:/me/alias`, is read too. InvalidParameter."""
    target, separator, alias = text.partition(":")
    target = target.strip("/")
    alias = alias.rpartition("/")[2] if separator else target
    if not target or not alias:
        raise InvalidParameter(f"bad format for links: {text}")
    return target, alias


def shown(me: str, text: str) -> str:
    """A link as inspect shows it."""
    target, alias = parse(text)
    return f"/{target}:/{me}/{alias}"


def hosts_entry(alias: str, target: Target) -> tuple[str, str]:
    """(address, names) for /etc/hosts."""
    names = dict.fromkeys((alias, target.hostname, target.name))
    return target.address, " ".join(name for name in names if name)


def environment(me: str, alias: str, target: Target) -> list[str]:
    """ALIAS_PORT, ALIAS_PORT_80_TCP and its parts, ALIAS_NAME, ALIAS_ENV_….

    Docker's documentation, Legacy container links § Environment variables.
    """
    prefix = alias.replace("-", "_").upper()
    found: list[str] = []
    ports = _sorted(target.exposed)
    if ports:
        number, protocol = ports[0]
        found.append(f"{prefix}_PORT={protocol}://{target.address}:{number}")
    for number, protocol in ports:
        port = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found += [
            f"{port}={protocol}://{target.address}:{number}",
            f"{port}_ADDR={target.address}",
            f"{port}_PORT={number}",
            f"{port}_PROTO={protocol}",
        ]
    found.append(f"{prefix}_NAME=/{me}/{alias}")
    for entry in target.env:
        name, equals, value = entry.partition("=")
        if equals and name not in PRIVATE:
            found.append(f"{prefix}_ENV_{name}={value}")
    return found


def _sorted(exposed: Iterable[str]) -> Sequence[tuple[int, str]]:
    """By number, TCP before the others."""
    return sorted((container_port(text) for text in exposed), key=lambda p: (p[0], p[1] != "tcp", p[1]))
