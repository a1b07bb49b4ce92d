"""Networks: create, list, remove, connect, disconnect. The front desk; what is live is in sandboxes.py."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Final

import msgspec
from msgspec.structs import replace

from skiff.docker.event import Actor, Event
from skiff.docker.filters import Filters
from skiff.docker.network import IPAM, EndpointSettings, IPAMConfig, NetworkCreate
from skiff.docker.units import parse_time
from skiff.engine.networks import configuration
from skiff.engine.networks.bridge import DEFAULT_BRIDGE, HOST_BINDING, ICC, MASQUERADE, MTU, NAME
from skiff.engine.networks.driver import NetworkDriver
from skiff.engine.networks.ipam import Network as Subnet
from skiff.engine.networks.ipam import (
    Pool,
    Range,
    check_host_bits,
    complete,
    first_host,
    next_subnet,
    overlap,
)
from skiff.engine.networks.names import names_of
from skiff.engine.networks.record import PREDEFINED, Endpoint, Network, Owner, Records, StoredRange
from skiff.engine.networks.sandboxes import Sandboxes
from skiff.engine.networks.settings import check_settings, policy
from skiff.engine.storage.removed import Bin
from skiff.errors import Conflict, Forbidden, InvalidParameter, NotFound, NotImplementedHere

NOUN: Final = "network"
PRUNED: Final = Actor("", {"reclaimed": "0"})
BUILT_IN_DRIVERS: Final = ("host", "null")  # namespaces of their own kind: nothing to make


class Networks:
    """pools: for networks that name no subnet. routes: destinations this host has routes to.

    bin: where removed networks are kept; without one nothing is. publish: tells the world. default_bridge:
    name and optional address (`bip`) of the network `bridge`.
    """

    def __init__(
        self,
        records: Records,
        sandboxes: Sandboxes,
        drivers: Mapping[str, NetworkDriver],
        *,
        pools: Iterable[Pool],
        routes: Callable[[], Iterable[Subnet]],
        publish: Callable[[Event], None],
        now: Callable[[], int],
        default_bridge: str,
        bip: str = "",
        mtu: int = 0,
        bin: Bin | None = None,
    ) -> None:
        self.records = records
        self.sandboxes = sandboxes
        self._drivers = drivers
        self._pools = tuple(pools)
        self._routes = routes
        self._publish = publish
        self._now = now
        self._default_bridge = default_bridge
        self._bip = bip
        self._mtu = mtu
        self._bin = bin
        self.followers: list[Callable[[str], None]] = []  # told of an owner whose networks change as it runs

    # -- boot -------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Make the predefined networks if they are missing, and the links that a reboot took away."""
        names = {n.name: n for n in self.records.networks.values()}
        for name, driver in (("none", "null"), ("host", "host")):
            if name not in names:
                self.records.put_network(
                    Network(
                        id=os.urandom(32).hex(),
                        name=name,
                        driver=driver,
                        created_ns=self._now(),
                        asked=IPAM(options=None),
                    )
                )
        self._restore_default_bridge(names.get("bridge"))
        for network in self.records.networks.values():
            if network.driver in self._drivers and network.name not in PREDEFINED:
                self._drivers[network.driver].create(network)

    def _restore_default_bridge(self, known: Network | None) -> None:
        """Its subnet follows `bip`, or stays what it was as long as no route of the host's is in the way."""
        if self._bip:
            address, _, length = self._bip.partition("/")
            scope = complete(f"{address}/{length}", address)
        elif known is not None and known.link == self._default_bridge and known.ranges:
            return
        else:
            scope = self._free_range(4)
        options = {
            DEFAULT_BRIDGE: "true",
            ICC: "true",
            MASQUERADE: "true",
            HOST_BINDING: "0.0.0.0",
            NAME: self._default_bridge,
            MTU: str(self._mtu or 1500),
        }
        self.records.put_network(
            Network(
                id=known.id if known else os.urandom(32).hex(),
                name="bridge",
                driver="bridge",
                created_ns=known.created_ns if known else self._now(),
                link=self._default_bridge,
                ranges=(StoredRange.of(scope),),
                asked=IPAM(config=(IPAMConfig(subnet=str(scope.subnet), gateway=str(scope.gateway)),)),
                options=options,
            )
        )

    async def shut_down(self) -> None:
        """Let go of everything live. The default bridge goes too when no container is on it."""
        await self.sandboxes.shut_down()
        default = self.find("bridge")
        if not any(e.is_attached for e in self.records.on_network(default.id)):
            self._drivers[default.driver].delete(default)

    # -- networks ---------------------------------------------------------------------------------------

    def find(self, text: str) -> Network:
        """By name, id or prefix. NotFound."""
        return self.records.find(text)

    def all(self, filters: Filters | None = None) -> list[Network]:
        """Those that match, in the order of their names. InvalidParameter for an unknown filter."""
        for kind in filters.values("type") if filters is not None else ():
            if kind not in ("builtin", "custom"):
                raise InvalidParameter(f"invalid filter: 'type'='{kind}'")
        for text in filters.values("dangling") if filters is not None else ():
            if text.lower() not in ("1", "true", "0", "false"):
                raise InvalidParameter(
                    'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
                )
        networks = sorted(self.records.networks.values(), key=lambda n: (n.name, n.id))
        return [n for n in networks if filters is None or self._matches(n, filters)]

    def _matches(self, network: Network, filters: Filters) -> bool:
        kind = "builtin" if network.name in PREDEFINED else "custom"
        dangling = kind == "custom" and not self.records.on_network(network.id)
        return (
            filters.matches("name", network.name)
            and filters.starts("id", network.id)
            and filters.exact("driver", network.driver)
            and filters.exact("scope", "local")
            and filters.exact("type", kind)
            and filters.labels(network.labels)
            and filters.boolean("dangling", dangling) == dangling
        )

    def create(self, wish: NetworkCreate) -> Network:
        """Conflict, InvalidParameter, Forbidden, NotImplementedHere; in Docker's words."""
        self._check(wish)
        if wish.config_only:
            return self._create_configuration(wish)
        source = configuration.source_of(wish)
        if source:
            found = next((n for n in self.records.networks.values() if n.name == source), None)
            if found is None or not found.config_only:
                raise NotFound(f'configuration network "{source}" does not exist')
            wish = configuration.applied(wish, found)
        id = os.urandom(32).hex()
        driver = wish.driver or "bridge"
        if driver not in self._drivers:
            raise NotFound(f'plugin "{driver}" not found')
        options = dict(wish.options or {})
        ranges, asked = self._ranges(wish)
        network = Network(
            id=id,
            name=wish.name,
            driver=driver,
            created_ns=self._now(),
            link=self._drivers[driver].link_name(id, options),
            internal=wish.internal,
            attachable=wish.attachable,
            ipv4=wish.enable_ipv4 is not False,
            ipv6=bool(wish.enable_ipv6),
            ranges=tuple(StoredRange.of(r) for r in ranges),
            asked=asked,
            addressable=any(config.subnet for config in (wish.ipam or IPAM()).config or ()),
            config_from=source,
            options=options,
            labels=dict(wish.labels or {}),
        )
        self._drivers[driver].check(network)
        policy(network, "")
        self.records.put_network(network)
        try:
            self._drivers[driver].create(network)
        except BaseException:
            self.records.delete_network(id)
            raise
        self._tell(network, "create")
        return network

    def _create_configuration(self, wish: NetworkCreate) -> Network:
        network = Network(
            id=os.urandom(32).hex(),
            name=wish.name,
            driver="null",
            created_ns=self._now(),
            ipv4=wish.enable_ipv4 is not False,
            ipv6=bool(wish.enable_ipv6),
            asked=wish.ipam or IPAM(),
            config_only=True,
            options=dict(wish.options or {}),
            labels=dict(wish.labels or {}),
        )
        self.records.put_network(network)
        self._tell(network, "create")
        return network

    def _check(self, wish: NetworkCreate) -> None:
        if not wish.name.strip():
            raise InvalidParameter("invalid name: name is empty")
        if wish.name in PREDEFINED or wish.name in ("default", "container"):
            raise Forbidden(f"operation is not permitted on predefined {wish.name} network ")
        if wish.scope == "swarm":
            raise Forbidden("cannot create a swarm scoped network when swarm is not active")
        if wish.ingress:
            raise Forbidden("Ingress network can only be global scope network")
        configuration.check(wish)
        if wish.enable_ipv4 is False and not wish.enable_ipv6:
            raise InvalidParameter("IPv4 or IPv6 must be enabled")
        if any(n.name == wish.name for n in self.records.networks.values()):
            raise Conflict(f"network with name {wish.name} already exists")
        if wish.driver in BUILT_IN_DRIVERS:
            raise Forbidden(f'only one instance of "{wish.driver}" network is allowed')

    def _ranges(self, wish: NetworkCreate) -> tuple[list[Range], IPAM]:
        """Complete ranges, and the IPAM as inspect shows it."""
        asked = wish.ipam or IPAM()
        if asked.driver == "null":
            raise NotImplementedHere("the IPAM driver null is not part of this engine")
        if asked.driver not in ("", "default"):
            raise NotFound(f'plugin "{asked.driver}" not found')
        ranges: list[Range] = []
        shown: list[IPAMConfig] = []
        for config in asked.config or ():
            if not config.subnet:
                if config.gateway or config.ip_range or config.auxiliary_addresses:
                    raise InvalidParameter(
                        "invalid network config:\ninvalid subnet : invalid CIDR block notation"
                    )
                continue
            check_host_bits(config.subnet)
            scope = complete(
                config.subnet,
                config.gateway or "",
                config.ip_range or "",
                (config.auxiliary_addresses or {}).values(),
            )
            if any(overlap(scope.subnet, taken) for taken in self._taken()):
                raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
            ranges.append(scope)
            shown.append(config)
        wanted = {4: wish.enable_ipv4 is not False, 6: bool(wish.enable_ipv6)}
        for version, enabled in wanted.items():
            if enabled and not any(r.subnet.version == version for r in ranges):
                scope = self._free_range(version)
                ranges.append(scope)
                shown.append(IPAMConfig(subnet=str(scope.subnet), gateway=str(scope.gateway)))
        ranges = [r for r in ranges if wanted[r.subnet.version]]
        return ranges, IPAM(driver="default", options=asked.options, config=tuple(shown))

    def _free_range(self, version: int) -> Range:
        subnet = next_subnet(self._pools, [*self._taken(), *self._routes()], version=version)
        return Range(subnet, first_host(subnet), subnet)

    def _taken(self) -> list[Subnet]:
        return [s.range().subnet for n in self.records.networks.values() for s in n.ranges]

    def remove(self, text: str) -> None:
        """Forbidden for predefined networks and those in use; NotFound."""
        network = self.find(text)
        if network.name in PREDEFINED:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        if network.config_only and any(n.config_from == network.name for n in self.all()):
            raise Forbidden(f'error while removing network: configuration network "{network.name}" is in use')
        active = [e for e in self.records.on_network(network.id) if e.is_attached]
        if active:
            names = ", ".join(f'name:"{e.owner_name}" id:"{e.id[:12]}"' for e in active)
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints ({names})"
            )
        kept = None
        if self._bin is not None and self._bin.keeping:
            kept = self._bin.keep(NOUN, network.id, network.name, msgspec.json.encode(network))
        try:
            if not network.config_only:
                self._drivers[network.driver].delete(network)
            self.records.delete_network(network.id)
        except BaseException:
            if self._bin is not None and kept is not None:
                self._bin.forget(kept.id)
            raise
        self._tell(network, "destroy")

    def adopt(self, network: Network, name: str) -> str:
        """A removed network is there again; its id. Conflict: its name or its addresses are taken."""
        if any(n.name == name or n.id == network.id for n in self.records.networks.values()):
            raise Conflict(f"network with name {name} already exists")
        if any(overlap(s.range().subnet, taken) for s in network.ranges for taken in self._taken()):
            raise Conflict(f"the addresses of network {name} belong to another network now")
        network = replace(network, name=name)
        self.records.put_network(network)
        try:
            if not network.config_only:
                self._drivers[network.driver].create(network)
        except BaseException:
            self.records.delete_network(network.id)
            raise
        self._tell(network, "create")
        return network.id

    def prune(self, filters: Filters | None = None, *, dry_run: bool = False) -> Sequence[str]:
        """Remove every network that no container is on; the names of those that went.

        dry_run: only tell.
        """
        with self._bin.act() if self._bin is not None else nullcontext():
            return self._prune(filters, dry_run)

    def _prune(self, filters: Filters | None, dry_run: bool) -> Sequence[str]:
        now = self._now()
        until = [parse_time(text, now) for text in filters.values("until")] if filters is not None else []
        gone: list[str] = []
        for network in self.all():
            if network.name in PREDEFINED or network.config_only or self.records.on_network(network.id):
                continue
            if filters is not None and not filters.labels(network.labels):
                continue
            if any(network.created_ns >= at for at in until):
                continue
            if not dry_run:
                self.remove(network.id)
            gone.append(network.name)
        if not dry_run:
            self._publish(Event(type="network", action="prune", actor=PRUNED, time_ns=now))
        return gone

    # -- endpoints --------------------------------------------------------------------------------------

    def check(self, owner: Owner) -> None:
        """May a container be created so? InvalidParameter. A network that does not exist yet is let pass."""
        for name, settings in owner.settings.items():
            try:
                network = self.find(name)
            except NotFound:
                continue
            try:
                check_settings(network, settings)
            except InvalidParameter as error:
                raise InvalidParameter(f"invalid config for network {network.name}: {error}") from None
            policy(network, owner.egress)

    def join(self, owner: Owner) -> list[Endpoint]:
        """Endpoints for a container as it was created: stored, not attached. NotFound for a network.

        Those that it has been disconnected from stay left.
        """
        wanted = [(self.find(name), settings) for name, settings in owner.settings.items()]
        return [
            self._new_endpoint(network, owner, settings)
            for network, settings in wanted
            if not self.records.has_left(owner.id, network.id)
        ]

    def _new_endpoint(self, network: Network, owner: Owner, settings: EndpointSettings) -> Endpoint:
        known = next((e for e in self.records.of_owner(owner.id) if e.network == network.id), None)
        return known or self._put_endpoint(network, owner, settings)

    def _put_endpoint(
        self, network: Network, owner: Owner, settings: EndpointSettings, known: Endpoint | None = None
    ) -> Endpoint:
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        endpoint = Endpoint(
            id=known.id if known is not None else os.urandom(32).hex(),
            network=network.id,
            owner=owner.id,
            owner_name=owner.name,
            names=names_of(owner.name, owner.id, owner.hostname, settings.aliases or ()),
            settings=settings,
            egress=policy(network, owner.egress),
        )
        return self.records.put_endpoint(endpoint)

    async def connect(self, text: str, owner: Owner, settings: EndpointSettings) -> None:
        """Conflict when it is connected already. The interface appears at once in a running container."""
        network = self.find(text)
        if network.name == "none":
            raise InvalidParameter(
                "container cannot be connected to multiple networks with one of the networks in private "
                "(none) mode"
            )
        if network.name == "host":
            raise InvalidParameter(
                f"cannot connect container to {network.name} network - "
                f"container must be created in {network.name} network mode"
            )
        check_settings(network, settings)
        known = next((e for e in self.records.of_owner(owner.id) if e.network == network.id), None)
        if known is not None and self.sandboxes.is_open(owner.id):
            raise Forbidden(f"endpoint with name {owner.name} already exists in network {network.name}")
        endpoint = self._put_endpoint(network, owner, settings, known)  # of two wishes the later counts
        try:
            if self.sandboxes.is_open(owner.id):
                await self.sandboxes.attach(endpoint)
                await self.sandboxes.publish(owner.id)
        except BaseException:
            await self.sandboxes.detach(self.records.endpoints[endpoint.id])
            self.records.delete_endpoint(endpoint.id)
            raise
        self.records.come_back(owner.id, network.id)
        self._changed(owner.id)
        self._tell(network, "connect", container=owner.id)

    def _changed(self, owner: str) -> None:
        if self.sandboxes.is_open(owner):
            for follow in self.followers:
                follow(owner)

    async def disconnect(self, text: str, owner: Owner) -> None:
        """NotFound when the container is not on the network."""
        network = self.find(text)
        endpoint = next((e for e in self.records.of_owner(owner.id) if e.network == network.id), None)
        if endpoint is None:
            raise Forbidden(f"container {owner.id} is not connected to network {network.name}")
        await self.sandboxes.detach(endpoint)
        self.records.leave(endpoint)
        self.sandboxes.apply_firewall()
        self._changed(owner.id)
        self._tell(network, "disconnect", container=owner.id)

    def forget(self, owner: str) -> None:
        """The container is gone for good."""
        for endpoint in self.records.of_owner(owner):
            self.records.delete_endpoint(endpoint.id)
        self.records.forget(owner)
        self.sandboxes.guard.forget(owner)

    def rename(self, owner: Owner) -> None:
        """The container has a new name."""
        for endpoint in self.records.of_owner(owner.id):
            names = names_of(owner.name, owner.id, owner.hostname, endpoint.settings.aliases or ())
            self.records.put_endpoint(replace(endpoint, owner_name=owner.name, names=names))

    def told(self, owner: str, action: str) -> None:
        """Publish `connect` or `disconnect` for each network of a container that started or stopped."""
        for endpoint in self.records.of_owner(owner):
            self._tell(self.records.networks[endpoint.network], action, container=owner)

    def _tell(self, network: Network, action: str, *, container: str = "") -> None:
        attributes = {"name": network.name, "type": network.driver}
        if container:
            attributes["container"] = container
        actor = Actor(network.id, attributes)
        self._publish(Event(type="network", action=action, actor=actor, time_ns=self._now()))
