"""Open sandboxes: the live side of endpoints. Addresses, interfaces, ports, resolver, from open to close.

The records come first: an address is stored before the kernel has it, and cleared after the sandbox is gone,
so that an engine killed in between finds at boot what it must undo. The firewall is applied from the records.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Final

from msgspec.structs import replace

from skiff.docker.network import EndpointIPAMConfig
from skiff.engine.networks import egress, resolv
from skiff.engine.networks.bridge import (
    HOST_BINDING,
    INTERFACE_PREFIX,
    MASQUERADE,
    BridgeDriver,
    default_routes,
    enabled,
    in_mode,
)
from skiff.engine.networks.driver import NetworkDriver
from skiff.engine.networks.firewall import Firewall
from skiff.engine.networks.guard import Guard
from skiff.engine.networks.ipam import Address, mac_for, reserve
from skiff.engine.networks.names import Names
from skiff.engine.networks.nameserver import ADDRESS, PORT, NameServer
from skiff.engine.networks.ports import Claim, PortAllocator, Wish, wishes
from skiff.engine.networks.record import Endpoint, Network, Owner, Records, SandboxRecord, StoredPort
from skiff.engine.networks.relay import Relay
from skiff.engine.networks.ruleset import Wall, ruleset
from skiff.engine.networks.sandbox import Namespace
from skiff.engine.networks.settings import INTERFACE, check_link_local
from skiff.errors import Conflict, SkiffError
from skiff.linux import links

log = logging.getLogger(__name__)
ANY: Final = IPv4Address(0)
IF_INET6: Final = "/proc/net/if_inet6"  # absent where the kernel has no IPv6


class Sandbox:
    """One container's open namespace."""

    def __init__(self, owner: Owner, namespace: Namespace) -> None:
        self.owner = owner
        self.namespace = namespace
        self.nameserver: NameServer | None = None
        self.claims: dict[Wish, Claim] = {}
        self.relays: dict[Claim, Relay] = {}


class Sandboxes:
    """host_resolv: reads the host's resolv.conf. drivers: by name."""

    def __init__(
        self,
        records: Records,
        drivers: Mapping[str, NetworkDriver],
        firewall: Firewall,
        guard: Guard,
        host_resolv: Callable[[], str],
    ) -> None:
        self._records = records
        self._drivers = drivers
        self._firewall = firewall
        self.guard = guard
        self._host_resolv = host_resolv
        self._ports = PortAllocator()
        self._open: dict[str, Sandbox] = {}

    def is_open(self, owner: str) -> bool:
        return owner in self._open

    # -- open and close ---------------------------------------------------------------------------------

    async def open(self, owner: Owner) -> Sandbox:
        """Attach every endpoint of the owner, publish its ports. All or nothing."""
        namespace = Namespace.new()
        sandbox = self._open[owner.id] = Sandbox(owner, namespace)
        try:
            for endpoint in self._records.of_owner(owner.id):
                await self.attach(endpoint)
            await self._publish(sandbox)
        except BaseException:
            await self.close(owner.id)
            raise
        return sandbox

    async def close(self, owner: str, *, shared: bool = False) -> None:
        """Let everything go; the kernel removes the links with the namespace. Closed already is no error.

        shared: the namespace may live on, other containers being in it. They lose its links, as in Docker.
        """
        sandbox = self._open.pop(owner, None)
        if sandbox is not None:
            if sandbox.nameserver is not None:
                await sandbox.nameserver.close()
            await self._unpublish(sandbox, sandbox.claims)
            for endpoint in self._records.of_owner(owner):
                if endpoint.is_attached and (shared or egress.restricts(endpoint.egress)):
                    await self._take_away(sandbox, endpoint)
            sandbox.namespace.close()
        self.guard.leave(owner)
        self._records.delete_sandbox(owner)
        for endpoint in self._records.of_owner(owner):
            if endpoint.is_attached:
                self._records.put_endpoint(detached(endpoint))
        self.apply_firewall()

    async def reopen(self, owner: Owner, pid: int) -> None:
        """At boot: the container runs already, with its interfaces. OSError when it is gone."""
        sandbox = self._open[owner.id] = Sandbox(owner, Namespace.of_process(pid))
        gateway = self._gateway(owner.id)
        wished = self._wishes(owner, gateway) if gateway is not None else []
        sandbox.claims = granted(wished, [claim_of(port) for port in self.published(owner.id)])
        self._ports.adopt(sandbox.claims.values())
        self._serve_names(sandbox, again=True)
        mended = await self._mend(sandbox)
        if not mended and list(sandbox.claims) == wished and self._are_stored(sandbox):
            await self._relay(sandbox)
            return
        try:
            await self._publish(sandbox)
        except SkiffError as error:  # a port that was about to come, or to stay, is another's now
            log.warning("%s", error)
            await self._relay(sandbox)  # its other ports are as they were

    async def _mend(self, sandbox: Sandbox) -> bool:
        """Attach what the earlier engine had no time to; whether there was any such endpoint."""
        mended = False
        for endpoint in self._records.of_owner(sandbox.owner.id):
            if endpoint.is_attached and is_complete(endpoint, sandbox.namespace):
                continue
            mended = True
            if endpoint.is_attached:
                await self._take_away(sandbox, endpoint)
            try:
                await self.attach(self._records.put_endpoint(detached(endpoint)))
            except SkiffError as error:
                log.warning("%s", error)
        return mended

    def forget_others(self, running: Collection[str]) -> None:
        """At boot: whatever the records say of owners that do not run is no longer so.

        Their links are gone with them, but where others live on in the namespace.
        """
        for endpoint in self._records.attached():
            if endpoint.owner not in running:
                network = self._records.networks[endpoint.network]
                self._drivers[network.driver].detach(network, endpoint, None)
                self._records.put_endpoint(detached(endpoint))
        for owner in list(self._records.sandboxes):
            if owner not in running:
                self._records.delete_sandbox(owner)

    async def shut_down(self) -> None:
        """The engine ends; containers keep their namespaces, and the firewall its rules."""
        for sandbox in self._open.values():
            if sandbox.nameserver is not None:
                await sandbox.nameserver.close()
            for relay in sandbox.relays.values():
                await relay.close()
            sandbox.namespace.close()
        self._open.clear()
        self._ports.close()
        self.guard.close()
        self._firewall.close()

    # -- endpoints --------------------------------------------------------------------------------------

    async def attach(self, endpoint: Endpoint) -> Endpoint:
        """Give the owner's open sandbox an interface on the endpoint's network."""
        sandbox = self._open[endpoint.owner]
        network = self._records.networks[endpoint.network]
        endpoint = self._records.put_endpoint(self._addressed(network, endpoint))
        driver = self._drivers[network.driver]
        try:
            self.guard.apply()  # before there is a link that it does not know
            driver.attach(
                network,
                endpoint,
                sandbox.namespace,
                default=[v for v, e in self._defaults(endpoint.owner).items() if e.id == endpoint.id],
                hairpin=bool(sandbox.owner.ports) or sandbox.owner.publish_all,
            )
        except OSError as error:
            await self._take_away(sandbox, endpoint)
            self._records.put_endpoint(detached(endpoint))
            raise SkiffError(
                f"failed to attach {endpoint.owner_name} to the network {network.name}: {error}"
            ) from error
        if sandbox.nameserver is None:
            self._serve_names(sandbox)
        return endpoint

    async def detach(self, endpoint: Endpoint) -> None:
        """Take the interface away while the container runs on."""
        sandbox = self._open.get(endpoint.owner)
        if sandbox is not None and endpoint.is_attached:
            await self._take_away(sandbox, endpoint)
            self.guard.leave(endpoint.owner)
        self._records.put_endpoint(detached(endpoint))
        if sandbox is not None:
            self._restore_default_route(sandbox)
            await self._publish(sandbox)

    async def _take_away(self, sandbox: Sandbox, endpoint: Endpoint) -> None:
        """The endpoint's link. The kernel waits for an RCU grace period: some 10 ms."""
        network = self._records.networks[endpoint.network]
        driver = self._drivers[network.driver]
        await asyncio.to_thread(driver.detach, network, endpoint, sandbox.namespace)

    def _restore_default_route(self, sandbox: Sandbox) -> None:
        """The way out went with an interface: another network's takes its place."""
        for version, endpoint in self._defaults(sandbox.owner.id).items():
            routes = default_routes(self._records.networks[endpoint.network], endpoint, [version])
            sandbox.namespace.netlink.request(*routes, what=endpoint.interface)

    def _addressed(self, network: Network, endpoint: Endpoint) -> Endpoint:
        asked = endpoint.settings.ipam_config or EndpointIPAMConfig()
        found: dict[int, str] = {4: "", 6: ""}
        mac = endpoint.settings.mac_address
        for stored in network.ranges:
            scope = stored.range()
            version = scope.subnet.version
            if found[version]:
                continue
            text = asked.ipv4_address if version == 4 else asked.ipv6_address
            wish = ip_address(text) if text else None
            if wish is not None and wish not in scope.subnet:
                continue
            address = reserve(scope, self._records.taken(network.id, version), wish)
            found[version] = f"{address}/{scope.subnet.prefixlen}"
            if isinstance(address, IPv4Address):
                mac = mac or mac_for(address)
        mac = mac or "02:42:" + os.urandom(4).hex(":")  # without an IPv4 address
        check_link_local(endpoint.settings)
        interface = self._free_interface(network, endpoint)
        return replace(
            endpoint,
            ipv4=found[4],
            ipv6=found[6],
            mac=mac,
            interface=interface,
            link=f"veth{os.urandom(4).hex()[:7]}",
        )

    def _free_interface(self, network: Network, endpoint: Endpoint) -> str:
        taken = {e.interface for e in self._records.of_owner(endpoint.owner)}
        asked = (endpoint.settings.driver_opts or {}).get(INTERFACE, "")
        if asked in taken - {""}:
            raise Conflict(f"the interface {asked} is there already")
        prefix = network.options.get(INTERFACE_PREFIX) or "eth"
        return asked or next(name for n in range(len(taken) + 1) if (name := f"{prefix}{n}") not in taken)

    def _ways_out(self, owner: str) -> list[Endpoint]:
        """Attached endpoints with a way out, the best first: with both families, by priority, by name."""
        found = []
        for endpoint in self._records.of_owner(owner):
            network = self._records.networks[endpoint.network]
            if endpoint.is_attached and not network.internal:
                both = bool(endpoint.ipv4 and endpoint.ipv6)
                found.append((not both, -endpoint.settings.gw_priority, network.name, endpoint))
        return [place[-1] for place in sorted(found, key=lambda place: place[:-1])]

    def _gateway(self, owner: str) -> Endpoint | None:
        """The endpoint by which the container is reached from outside."""
        return next(iter(self._ways_out(owner)), None)

    def _defaults(self, owner: str) -> dict[int, Endpoint]:
        """The endpoint that gives the default route, by address family."""
        ways = self._ways_out(owner)
        first = {version: next((e for e in ways if e.has(version)), None) for version in (4, 6)}
        return {version: endpoint for version, endpoint in first.items() if endpoint is not None}

    # -- ports ------------------------------------------------------------------------------------------

    async def republish(self, owner: Owner) -> None:
        """The owner wishes other ports now. Those it keeps are not touched. Unavailable when one is taken."""
        sandbox = self._open.get(owner.id)
        if sandbox is not None:
            before, sandbox.owner = sandbox.owner, owner
            try:
                await self._publish(sandbox)
            except BaseException:
                sandbox.owner = before
                raise

    async def publish(self, owner: str) -> None:
        """The owner is on another network now, perhaps its way out. Unavailable when a port is taken."""
        await self._publish(self._open[owner])

    async def _publish(self, sandbox: Sandbox) -> None:
        """Bring the published ports to what the owner's gateway endpoint and wishes say now."""
        gateway = self._gateway(sandbox.owner.id)
        wanted = self._wishes(sandbox.owner, gateway) if gateway is not None else []
        added = [wish for wish in wanted if wish not in sandbox.claims]
        inside: dict[int, Address] = (
            {a.version: a for a in gateway.addresses()} if gateway is not None else {}
        )
        try:
            claims = dict(zip(added, self._ports.claim(added, inside), strict=True))
        except SkiffError as error:
            where = f"{sandbox.owner.name} ({gateway.id})" if gateway is not None else sandbox.owner.name
            raise type(error)(
                f"driver failed programming external connectivity on endpoint {where}: {error}"
            ) from error
        await self._unpublish(sandbox, [wish for wish in sandbox.claims if wish not in wanted])
        sandbox.claims.update(claims)
        self._store_ports(sandbox, gateway)
        self.apply_firewall()
        await self._relay(sandbox)

    async def _unpublish(self, sandbox: Sandbox, wishes: Iterable[Wish]) -> None:
        for wish in list(wishes):
            claim = sandbox.claims.pop(wish)
            relay = sandbox.relays.pop(claim, None)
            if relay is not None:
                await relay.close()
            self._ports.release([claim])

    async def _relay(self, sandbox: Sandbox) -> None:
        """Carry what the firewall cannot lead."""
        for port in self.published(sandbox.owner.id):
            claim = claim_of(port)
            if claim in sandbox.relays or not needs_relay(claim, ip_address(port.container)):
                continue
            listening = self._ports.socket_of(claim)
            if listening is not None:
                relay = sandbox.relays[claim] = Relay(listening, (port.container, port.container_port))
                await relay.start()

    def _wishes(self, owner: Owner, gateway: Endpoint) -> list[Wish]:
        network = self._records.networks[gateway.network]
        default = ip_address(network.options.get(HOST_BINDING) or str(ANY))
        exposed = owner.exposed if owner.publish_all else ()
        return wishes(
            owner.ports,
            exposed,
            default,
            ipv6=socket.has_ipv6 and os.path.exists(IF_INET6),
            direct=[version for version in in_mode(network, "routed") if gateway.has(version)],
        )

    def _store_ports(self, sandbox: Sandbox, gateway: Endpoint | None) -> None:
        owner = sandbox.owner.id
        ports = self._stored(sandbox, gateway)
        if ports:
            self._records.put_sandbox(SandboxRecord(owner, ports))
        else:
            self._records.delete_sandbox(owner)

    def _stored(self, sandbox: Sandbox, gateway: Endpoint | None) -> tuple[StoredPort, ...]:
        """What the records say when all is done: every claim leads to the gateway endpoint."""
        if gateway is None:
            return ()
        inside = {a.version: str(a) for a in self._records.endpoints[gateway.id].addresses()}
        return tuple(
            StoredPort(
                c.protocol,
                str(c.host),
                c.host_port,
                inside.get(c.host.version) or inside[4],
                c.container_port,
            )
            for c in sandbox.claims.values()
        )

    def _are_stored(self, sandbox: Sandbox) -> bool:
        owner = sandbox.owner.id
        return self._stored(sandbox, self._gateway(owner)) == self.published(owner)

    def is_reachable(self, owner: str) -> bool:
        """From outside, by published ports: is it on a network that is not internal?"""
        return self._gateway(owner) is not None

    def published(self, owner: str) -> tuple[StoredPort, ...]:
        record = self._records.sandboxes.get(owner)
        return record.ports if record is not None else ()

    def apply_firewall(self) -> None:
        """From the records to the kernel. SkiffError when the kernel refuses."""
        self.guard.apply()
        used = self._records.in_use()
        walls = [
            Wall(
                network.link,
                tuple(s.range().subnet for s in network.ranges),
                internal=network.internal,
                masquerade=enabled(network, MASQUERADE),
                open=in_mode(network, "nat-unprotected"),
                routed=in_mode(network, "routed"),
            )
            for network in self._records.networks.values()
            if network.driver == BridgeDriver.name and network.id in used
        ]
        try:
            self._firewall.apply(ruleset(walls, self._records.published()))
        except OSError as error:
            raise SkiffError(f"the kernel refused the firewall: {error}") from error

    # -- names ------------------------------------------------------------------------------------------

    def _serve_names(self, sandbox: Sandbox, *, again: bool = False) -> None:
        if not self._has_resolver(sandbox.owner.id):
            return
        udp, tcp = sandbox.namespace.resolver_sockets(again=again)
        owner = sandbox.owner.id
        names = Names(
            self._records,
            owner,
            lambda: self._servers(sandbox.owner),
            partial(self.guard.allows, owner),
            partial(self.guard.answered, owner),
        )
        sandbox.nameserver = NameServer(names, udp, tcp)

    def _has_resolver(self, owner: str) -> bool:
        """Is it on a network where names resolve, or where they open the way?"""
        return any(
            self._records.networks[e.network].has_resolver or egress.restricts(e.egress)
            for e in self._records.of_owner(owner)
        )

    def _servers(self, owner: Owner) -> list[tuple[str, int]]:
        """Where the resolver passes other questions; nowhere from internal networks."""
        if self._gateway(owner.id) is None:
            return []
        conf = self._wanted_conf(owner)
        return [(server, PORT) for server in conf.servers]

    def _wanted_conf(self, owner: Owner) -> resolv.ResolvConf:
        host = resolv.parse(self._host_resolv())
        return resolv.overridden(host, owner.dns, owner.dns_search, owner.dns_options)

    def resolv_conf(self, owner: Owner, *, resolver: bool | None = None) -> str:
        """The text of the container's resolv.conf. resolver: with ours or without, whatever is so now."""
        wanted = self._wanted_conf(owner)
        if self._has_resolver(owner.id) if resolver is None else resolver:
            return resolv.rendered(resolv.through_resolver(wanted, ADDRESS))
        return resolv.rendered(resolv.reachable(wanted))


def needs_relay(claim: Claim, container: Address) -> bool:
    """A port of IPv6 to a container without it, or one that ::1 has."""
    if claim.host.version != container.version:
        return True
    return claim.host.version == 6 and (claim.host.is_unspecified or claim.host.is_loopback)


def claim_of(port: StoredPort) -> Claim:
    return Claim(port.protocol, ip_address(port.host), port.host_port, port.container_port)


def is_complete(endpoint: Endpoint, namespace: Namespace) -> bool:
    """Has the interface been given its addresses? They come in one message with its going up."""
    found = links.find(namespace.netlink, endpoint.interface)
    return found is not None and bool(found.flags & links.IFF_UP)


def granted(wished: Iterable[Wish], claims: Iterable[Claim]) -> dict[Wish, Claim]:
    """Which claim came of which wish: the first that fits."""
    left = list(claims)
    found: dict[Wish, Claim] = {}
    for wish in wished:
        for claim in left:
            same = (claim.protocol, claim.container_port, claim.host)
            if same == (wish.protocol, wish.container_port, wish.host) and (
                wish.direct or not wish.host_ports or claim.host_port in wish.host_ports
            ):
                found[wish] = claim
                left.remove(claim)
                break
    return found


def detached(endpoint: Endpoint) -> Endpoint:
    """The same endpoint without what only an open sandbox has."""
    return replace(endpoint, ipv4="", ipv6="", mac="", interface="", link="")
