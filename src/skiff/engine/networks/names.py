"""Which names a sandbox may know: those of containers on its own networks, from the records."""

from collections.abc import Callable, Sequence

from skiff.engine.networks.ipam import Address
from skiff.engine.networks.record import Endpoint, Records


def names_of(name: str, owner: str, hostname: str, aliases: Sequence[str]) -> tuple[str, ...]:
    """What a container is called on a network: its name, aliases, short id and host name, each once."""
    wanted = [name, *aliases, owner[:12], hostname]
    return tuple(dict.fromkeys(n for n in wanted if n))


MOST_KNOWN = 10_000  # names are the container's to choose; the memory is ours


class Names:
    """A nameserver.Directory for one container. servers, allows: asked anew for every question passed on."""

    def __init__(
        self,
        records: Records,
        owner: str,
        servers: Callable[[], Sequence[tuple[str, int]]],
        allows: Callable[[str], bool] = lambda _: True,
        answered: Callable[[str, bytes], None] = lambda _name, _message: None,
    ) -> None:
        self._records = records
        self._owner = owner
        self.servers = servers
        self.allows = allows
        self.answered = answered
        self._version = -1
        self._known: dict[str, list[Address] | None] = {}

    @property
    def version(self) -> int:
        return self._records.version

    def addresses(self, name: str) -> Sequence[Address] | None:
        if self._version != self._records.version or len(self._known) > MOST_KNOWN:
            self._version = self._records.version
            self._known.clear()
        if name not in self._known:
            found = [a for endpoint in self._called(name) for a in endpoint.addresses()]
            self._known[name] = found or None
        return self._known[name]

    def name(self, address: Address) -> str | None:
        for mine in self._mine():
            network = self._records.networks[mine.network]
            for endpoint in self._records.on_network(mine.network):
                if address in endpoint.addresses():
                    return f"{endpoint.owner_name}.{network.name}"
        return None

    def _mine(self) -> list[Endpoint]:
        """The endpoints of this container on networks where names resolve."""
        return [
            e
            for e in self._records.of_owner(self._owner)
            if e.is_attached and self._records.networks[e.network].has_resolver
        ]

    def _called(self, name: str) -> list[Endpoint]:
        found: list[Endpoint] = []
        for mine in self._mine():
            network = self._records.networks[mine.network]
            bare = name.removesuffix(f".{network.name.lower()}")
            targets = {bare, *linked(mine, bare)}
            found += [
                e
                for e in self._records.on_network(mine.network)
                if e.is_attached and any(n.lower() in targets for n in e.names)
            ]
        return found


def linked(endpoint: Endpoint, name: str) -> list[str]:
    """The containers that this endpoint's links call by that name: `target:alias`."""
    pairs = (link.partition(":") for link in endpoint.settings.links or ())
    return [target.lower() for target, _, alias in pairs if (alias or target).lower() == name]
