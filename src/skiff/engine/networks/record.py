"""Network and Endpoint, as stored, and their look-up. What is live (namespaces, sockets) is in service.py."""

from collections.abc import Collection, Container, Iterator
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

from msgspec import Struct

from skiff.docker.network import IPAM, EndpointSettings, PortMap
from skiff.engine.networks.ipam import Address, Range
from skiff.engine.networks.ruleset import Published
from skiff.engine.storage.state import StateStore
from skiff.errors import InvalidParameter, NotFound

CACHED = 4096  # texts read: every start asks for the addresses of its whole network
PREDEFINED = ("bridge", "host", "none")


class StoredRange(Struct, frozen=True):
    """An ipam.Range in text."""

    subnet: str
    gateway: str
    within: str
    reserved: tuple[str, ...] = ()

    def range(self) -> Range:
        return _range(self)

    @classmethod
    def of(cls, scope: Range) -> "StoredRange":
        return cls(
            str(scope.subnet), str(scope.gateway), str(scope.within), tuple(str(a) for a in scope.reserved)
        )


@lru_cache(CACHED)
def _range(stored: StoredRange) -> Range:
    return Range(
        ip_network(stored.subnet),
        ip_address(stored.gateway),
        ip_network(stored.within),
        tuple(ip_address(a) for a in stored.reserved),
    )


class Network(Struct, frozen=True, kw_only=True):
    """One network. link: the bridge, or the parent of a macvlan. asked: the IPAM as inspect shows it.

    addressable: its user chose a subnet, and may choose addresses of it. config_only: it has no link; others
    are made from it, and name it in config_from.
    """

    id: str
    name: str
    driver: str
    created_ns: int
    link: str = ""
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    ranges: tuple[StoredRange, ...] = ()
    asked: IPAM = IPAM()
    addressable: bool = True
    config_only: bool = False
    config_from: str = ""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    @property
    def has_resolver(self) -> bool:
        """On the default bridge names do not resolve: Docker kept that for the sake of links."""
        return self.name not in PREDEFINED


class Endpoint(Struct, frozen=True, kw_only=True):
    """A container's place in a network.

    names: what it is called there. egress: where packets may go from it (egress.parse). The addresses (with
    prefix) and the host's link are set while a sandbox is open, and empty otherwise.
    """

    id: str
    network: str
    owner: str
    owner_name: str
    names: tuple[str, ...] = ()
    settings: EndpointSettings = EndpointSettings()
    egress: str = ""
    interface: str = ""
    link: str = ""
    mac: str = ""
    ipv4: str = ""
    ipv6: str = ""

    @property
    def is_attached(self) -> bool:
        return bool(self.interface)

    def has(self, version: int) -> bool:
        """An address of that family?"""
        return bool(self.ipv4 if version == 4 else self.ipv6)

    def addresses(self) -> list[Address]:
        return [_address(text) for text in (self.ipv4, self.ipv6) if text]

    def interfaces(self) -> list[IPv4Interface | IPv6Interface]:
        """The addresses with their prefix lengths."""
        return [_interface(text) for text in (self.ipv4, self.ipv6) if text]


@lru_cache(CACHED)
def _interface(text: str) -> IPv4Interface | IPv6Interface:
    return ip_interface(text)


@lru_cache(CACHED)
def _address(text: str) -> Address:
    return _interface(text).ip


class Owner(Struct, frozen=True, kw_only=True):
    """What networks must know of a container.

    settings: the endpoints it was created with, by the name or id of their network. ports: what to publish;
    exposed: published too with publish_all. dns…: overrides of the host's resolv.conf. egress: its policy,
    empty for that of its networks.
    """

    id: str
    name: str
    hostname: str = ""
    settings: dict[str, EndpointSettings] = {}
    ports: PortMap = {}
    exposed: tuple[str, ...] = ()
    publish_all: bool = False
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    egress: str = ""


class StoredPort(Struct, frozen=True):
    """A published port in text."""

    protocol: str
    host: str
    host_port: int
    container: str
    container_port: int

    def published(self) -> Published:
        return _published(self)


@lru_cache(CACHED)
def _published(port: StoredPort) -> Published:
    return Published(
        port.protocol,
        ip_address(port.host),
        port.host_port,
        ip_address(port.container),
        port.container_port,
    )


class SandboxRecord(Struct, frozen=True):
    """An open sandbox's published ports, for the firewall of the next engine."""

    owner: str
    ports: tuple[StoredPort, ...] = ()


class Left(Struct, frozen=True):
    """The networks that a container has been disconnected from: no start brings it back."""

    owner: str
    networks: tuple[str, ...] = ()


class Records:
    """All networks and endpoints, in memory and on disk."""

    def __init__(self, state: StateStore) -> None:
        self._transaction = state.transaction
        self._networks = state.table("network", Network)
        self._endpoints = state.table("endpoint", Endpoint)
        self._sandboxes = state.table("sandbox", SandboxRecord)
        self._left = state.table("left", Left)
        self.networks: dict[str, Network] = dict(self._networks.all())
        self.endpoints: dict[str, Endpoint] = dict(self._endpoints.all())
        self.sandboxes: dict[str, SandboxRecord] = dict(self._sandboxes.all())
        self.left: dict[str, Left] = dict(self._left.all())
        self._by_owner: dict[str, dict[str, None]] = {}  # owner → ids of its endpoints, in order
        self._by_network: dict[str, dict[str, None]] = {}
        self._attached: dict[str, dict[str, Endpoint]] = {}  # network → its attached endpoints by id
        self._policed: dict[str, Endpoint] = {}  # attached endpoints that have an egress policy, by id
        self._taken: dict[tuple[str, int], set[int]] = {}  # network, IP version → addresses as numbers
        self.version = 0  # grows with every change of a network or an endpoint
        self.changes: dict[str, int] = {}  # owner → how often its endpoints or ports have changed
        for endpoint in self.endpoints.values():
            self._index(endpoint)

    def _index(self, endpoint: Endpoint) -> None:
        self._by_owner.setdefault(endpoint.owner, {})[endpoint.id] = None
        self._by_network.setdefault(endpoint.network, {})[endpoint.id] = None
        if endpoint.is_attached:
            self._attached.setdefault(endpoint.network, {})[endpoint.id] = endpoint
            if endpoint.egress:
                self._policed[endpoint.id] = endpoint
        for address in endpoint.addresses():
            self._taken.setdefault((endpoint.network, address.version), set()).add(int(address))

    def _unindex(self, endpoint: Endpoint) -> None:
        """What an endpoint has only while it is attached."""
        self._policed.pop(endpoint.id, None)
        attached = self._attached.get(endpoint.network, {})
        if attached.pop(endpoint.id, None) is not None and not attached:
            del self._attached[endpoint.network]
        for address in endpoint.addresses():
            self._taken[endpoint.network, address.version].discard(int(address))

    def find(self, text: str) -> Network:
        """By name, full id or unique prefix. NotFound, InvalidParameter in Docker's words."""
        if text in self.networks:
            return self.networks[text]
        named = [n for n in self.networks.values() if n.name == text]
        if len(named) == 1:
            return named[0]
        matches = [n for key, n in self.networks.items() if key.startswith(text)] if text else []
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InvalidParameter(f"network {text} is ambiguous ({len(matches)} matches found on ID prefix)")
        raise NotFound(f"network {text} not found")

    def attached(self) -> list[Endpoint]:
        """Those that a container is on now."""
        return [endpoint for endpoints in self._attached.values() for endpoint in endpoints.values()]

    def policed(self) -> list[Endpoint]:
        """Those of them that have an egress policy."""
        return list(self._policed.values())

    def in_use(self) -> Collection[str]:
        """The ids of the networks that a container is on now."""
        return self._attached.keys()

    def taken(self, network: str, version: int) -> Container[int]:
        """The network's addresses in use, as numbers. version: 4 or 6."""
        return self._taken.get((network, version), ())

    def of_owner(self, owner: str) -> list[Endpoint]:
        """In the order in which they were made."""
        return [self.endpoints[id] for id in self._by_owner.get(owner, ())]

    def on_network(self, network: str) -> list[Endpoint]:
        return [self.endpoints[id] for id in self._by_network.get(network, ())]

    def put_network(self, record: Network) -> Network:
        self._networks.put(record.id, record)
        self.version += 1
        self.networks[record.id] = record
        return record

    def delete_network(self, id: str) -> None:
        """With the endpoints of containers that do not run."""
        endpoints = self.on_network(id)
        with self._transaction():
            for endpoint in endpoints:
                self._endpoints.delete(endpoint.id)
            self._networks.delete(id)
        for endpoint in endpoints:
            self._drop(endpoint.id)
        self.version += 1
        self.networks.pop(id, None)
        for version in (4, 6):
            self._taken.pop((id, version), None)

    def put_endpoint(self, record: Endpoint) -> Endpoint:
        self._endpoints.put(record.id, record)
        self._changed(record.owner)
        before = self.endpoints.get(record.id)
        if before is not None:
            self._unindex(before)
        self._index(record)
        self.endpoints[record.id] = record
        return record

    def delete_endpoint(self, id: str) -> None:
        self._endpoints.delete(id)
        self._drop(id)

    def _drop(self, id: str) -> None:
        gone = self.endpoints.pop(id, None)
        if gone is None:
            return
        self._changed(gone.owner)
        self._unindex(gone)
        for index, key in ((self._by_owner, gone.owner), (self._by_network, gone.network)):
            index[key].pop(id)
            if not index[key]:
                del index[key]

    def has_left(self, owner: str, network: str) -> bool:
        return owner in self.left and network in self.left[owner].networks

    def leave(self, endpoint: Endpoint) -> None:
        """It goes, and its owner's next start does not bring it back: both or neither."""
        owner = endpoint.owner
        before = self.left.get(owner, Left(owner)).networks
        left = Left(owner, (*before, endpoint.network))
        with self._transaction():
            self._endpoints.delete(endpoint.id)
            self._left.put(owner, left)
        self._drop(endpoint.id)
        self.left[owner] = left

    def come_back(self, owner: str, network: str) -> None:
        if self.has_left(owner, network):
            left = Left(owner, tuple(n for n in self.left[owner].networks if n != network))
            self._left.put(owner, left)
            self.left[owner] = left

    def forget(self, owner: str) -> None:
        """It is gone for good; its endpoints have been deleted."""
        self.changes.pop(owner, None)
        if self.left.pop(owner, None) is not None:
            self._left.delete(owner)

    def put_sandbox(self, record: SandboxRecord) -> SandboxRecord:
        self._sandboxes.put(record.owner, record)
        self._changed(record.owner)
        self.sandboxes[record.owner] = record
        return record

    def delete_sandbox(self, owner: str) -> None:
        if self.sandboxes.pop(owner, None) is not None:
            self._sandboxes.delete(owner)
            self._changed(owner)

    def _changed(self, owner: str) -> None:
        self.version += 1
        self.changes[owner] = self.changes.get(owner, 0) + 1

    def published(self) -> Iterator[Published]:
        """What the firewall leads; a port of another address family is a relay's."""
        for sandbox in self.sandboxes.values():
            for port in sandbox.ports:
                published = port.published()
                if published.host.version == published.container.version:
                    yield published
