"""NetworkSandboxes: the networks of a container, from its record. The bridge between this noun and networks.

Modes without networks of ours (none, host, container:ID) are left to PlainSandboxes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from skiff.docker.container import HostConfig
from skiff.docker.container_view import NetworkSettings, PortSummary
from skiff.docker.network import EndpointSettings
from skiff.engine.containers import name_files
from skiff.engine.containers.links import Links
from skiff.engine.containers.networking import PlainSandboxes, SandboxView
from skiff.engine.containers.record import Container, Records
from skiff.engine.networks import egress, links, views
from skiff.engine.networks.keys import SandboxKeys
from skiff.engine.networks.record import Owner, StoredPort
from skiff.engine.networks.service import Networks
from skiff.errors import Conflict, Forbidden, InvalidParameter, NotFound, SkiffError
from skiff.paths import DataPaths, RunPaths


class NetworkSandboxes:
    """A Sandboxes. pid_of: the host pid of a running container's init."""

    def __init__(
        self,
        networks: Networks,
        records: Records,
        data: DataPaths,
        run: RunPaths,
        pid_of: Callable[[str], int],
    ) -> None:
        self._networks = networks
        self._data = data
        networks.followers.append(self._follow)
        self._records = records
        self._links = Links(records, data, self._address_on_default_bridge)
        self._keys = SandboxKeys(run.netns)
        self._pid_of = pid_of
        self._plain = PlainSandboxes(pid_of)

    def warnings(self, container: Container) -> Sequence[str]:
        mine = owner(container)
        check_egress(container.host)
        if not container.host.network_mode.startswith("container:"):
            self._networks.check(mine)
        if is_plain(container):
            return [*check_plain(container.host), *self._plain.warnings(container)]
        if mode_of(container) == "bridge":
            self._links.check(container)
        return ()

    def join(self, container: Container) -> None:
        """Right after create. A network that does not exist is told at the start, as Docker does."""
        if not is_plain(container):
            try:
                self._networks.join(owner(container))
            except NotFound:
                return

    async def open(self, container: Container) -> SandboxView:
        if is_plain(container):
            view = await self._plain.open(container)
            return replace(view, files_of=self._first_of(view.files_of))
        mine = owner(container)
        linked = list(self._links.of(container)) if mode_of(container) == "bridge" else []
        sandboxes = self._networks.sandboxes
        try:
            self._networks.join(mine)
            sandbox = await sandboxes.open(mine)
        except SkiffError as error:
            raise type(error)(f"failed to set up container networking: {error}") from error
        self._networks.told(container.id, "connect")
        hosts = [links.hosts_entry(alias, target) for alias, target in linked]
        hosts += [
            (str(address), container.config.hostname + domain(container))
            for endpoint in self._networks.records.of_owner(container.id)
            for address in endpoint.addresses()
        ]
        return SandboxView(
            namespace=sandbox.namespace.path,
            hosts=tuple(hosts),
            env=links_environment(container, linked),
            gateway=self._host_gateway(),
            resolv_conf=sandboxes.resolv_conf(mine),
        )

    def _follow(self, id: str) -> None:
        """Its networks have changed while it runs: so do its hosts and resolv.conf."""
        try:
            container = self._records.get(id)
        except NotFound:
            return  # a step of a build
        mine, files = owner(container), self._data.container(id)
        addresses = [str(a) for e in self._networks.records.of_owner(id) for a in e.addresses()]
        name_files.follow_addresses(files / "hosts", container.config.hostname + domain(container), addresses)
        sandboxes = self._networks.sandboxes
        now = sandboxes.resolv_conf(mine)
        if now == sandboxes.resolv_conf(mine, resolver=True):
            name_files.follow_servers(files / "resolv.conf", sandboxes.resolv_conf(mine, resolver=False), now)

    def _first_of(self, id: str) -> str:
        """Of those who share a network with that one, whose it is: the files that all share are its."""
        while id and (mode := self._records.get(id).host.network_mode).startswith("container:"):
            id = mode.partition(":")[2]
        return id

    def _host_gateway(self) -> str:
        """What `host-gateway` in extra hosts means: this host on the default bridge."""
        return self._networks.find("bridge").ranges[0].gateway

    async def close(self, container: Container) -> None:
        has_key = self._keys.has(container.id)
        if has_key:
            await asyncio.to_thread(self._keys.remove, container.id)
        if self._networks.sandboxes.is_open(container.id):
            shared = has_key or self._has_lodgers(container.id)
            await self._networks.sandboxes.close(container.id, shared=shared)
            self._networks.told(container.id, "disconnect")

    def _has_lodgers(self, id: str) -> bool:
        """Does a container run in that one's network, or in that of one that does?"""
        lodging = [c for c in self._records if c.host.network_mode.startswith("container:")]
        found: set[str] = {id}
        while more := {c.id for c in lodging if c.host.network_mode.partition(":")[2] in found} - found:
            found.update(more)
        return any(c.state.running for c in lodging if c.id in found)

    async def reopen(self, running: Iterable[Container]) -> None:
        alive = list(running)
        self._keys.settle({c.id: c.state.pid for c in alive})
        reopened: set[str] = set()
        for container in alive:
            if is_plain(container):
                continue
            try:
                await self._networks.sandboxes.reopen(owner(container), self._pid_of(container.id))
            except (OSError, NotFound):
                continue  # it has ended; the supervisor hears of it, and finds no sandbox to close
            reopened.add(container.id)
        self._networks.sandboxes.forget_others(reopened)
        self._networks.sandboxes.apply_firewall()

    async def forget(self, container: Container) -> None:
        await self.close(container)
        self._networks.forget(container.id)

    def renamed(self, container: Container) -> None:
        self._networks.rename(owner(container))

    async def republish(self, container: Container) -> None:
        if is_plain(container):
            await self._plain.republish(container)
        else:
            await self._networks.sandboxes.republish(owner(container))

    def started(self, container: Container) -> None:
        if not is_plain(container):
            self._links.follow(container)

    def unlinked(self, text: str) -> Container:
        return self._links.remove(text)

    def names(self, container: Container) -> tuple[str, ...]:
        return self._links.names_of(container)

    def environment(self, container: Container) -> tuple[str, ...]:
        if mode_of(container) != "bridge":
            return ()
        try:
            return links_environment(container, self._links.of(container))
        except (Conflict, NotFound):
            return ()  # a target has ended since; Docker refuses every exec then

    def mark(self, container: Container) -> object:
        return self._networks.records.changes.get(container.id)

    def _address_on_default_bridge(self, id: str) -> str:
        default = self._networks.find("bridge")
        for endpoint in self._networks.records.of_owner(id):
            if endpoint.network == default.id:
                return next((str(a) for a in endpoint.addresses()), "")
        return ""

    def settings(self, container: Container) -> NetworkSettings:
        if is_plain(container):
            return self._plain_settings(container)
        mine = owner(container)
        endpoints = self.endpoints(container)
        found = NetworkSettings(
            ports=views.port_map(mine, self._published(container))
            if container.state.running and self._networks.sandboxes.is_reachable(container.id)
            else {},
            networks=endpoints,
        )
        if container.state.running:
            found = replace(found, sandbox_id=container.id, sandbox_key=self._key(container))
        default = endpoints.get("bridge")
        if default is None:
            return found
        return replace(
            found,
            endpoint_id=default.endpoint_id,
            gateway=default.gateway,
            ip_address=default.ip_address,
            ip_prefix_len=default.ip_prefix_len,
            ipv6_gateway=default.ipv6_gateway,
            global_ipv6_address=default.global_ipv6_address,
            global_ipv6_prefix_len=default.global_ipv6_prefix_len,
            mac_address=default.mac_address,
        )

    def _plain_settings(self, container: Container) -> NetworkSettings:
        """Docker shows a sandbox of their own for `none` and `host`; for container:ID that of the other."""
        found = replace(self._plain.settings(container), networks=self.endpoints(container))
        if not container.state.running or container.host.network_mode.startswith("container:"):
            return found
        return replace(found, sandbox_id=container.id, sandbox_key=self._key(container))

    def _key(self, container: Container) -> str:
        return self._keys.path(container.id, container.state.pid)

    def endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        if is_plain(container):
            found = self._plain.endpoints(container)
            if not container.state.running:
                return found
            return {
                name: replace(e, network_id=self._networks.find(name).id, endpoint_id=container.id)
                for name, e in found.items()
            }
        records = self._networks.records
        found = {}
        for endpoint in records.of_owner(container.id):
            network = records.networks[endpoint.network]
            found[network.name] = views.endpoint_settings(network, endpoint)
        if found or container.id in records.left:
            return found
        return {mode_of(container): EndpointSettings()}

    def ports(self, container: Container) -> tuple[PortSummary, ...]:
        """Published ports first bound first listed, then those only exposed."""
        exposed = self._plain.ports(container)
        if not container.state.running:
            return ()
        published = self._published(container)
        bound = {(p.container_port, p.protocol) for p in published}
        return (
            *(p for p in exposed if (p.private_port, p.type) not in bound),
            *(
                PortSummary(
                    ip=p.host, private_port=p.container_port, public_port=p.host_port, type=p.protocol
                )
                for p in published
            ),
        )

    def _published(self, container: Container) -> tuple[StoredPort, ...]:
        return tuple(self._networks.sandboxes.published(container.id))


def mode_of(container: Container) -> str:
    """The network mode; `default` is the default bridge."""
    mode = container.host.network_mode
    return "bridge" if mode in ("default", "") else mode


def links_environment(container: Container, linked: Iterable[tuple[str, links.Target]]) -> tuple[str, ...]:
    return tuple(
        entry for alias, target in linked for entry in links.environment(container.name, alias, target)
    )


def is_plain(container: Container) -> bool:
    mode = container.host.network_mode
    return mode in ("none", "host") or mode.startswith("container:")


def check_connectable(container: Container) -> None:
    """Forbidden for a container whose mode leaves it no other network."""
    mode = container.host.network_mode
    if mode == "none":
        raise Forbidden(
            "container cannot be connected to multiple networks with one of the networks in private "
            "(none) mode"
        )
    if is_plain(container):
        raise Forbidden(
            "container sharing network namespace with another container or host cannot be connected to "
            "any other network"
        )


def check_egress(host: HostConfig) -> None:
    """InvalidParameter for a policy that is none, or that nobody could keep."""
    mode = host.network_mode
    if egress.restricts(host.egress or "") and (mode == "host" or mode.startswith("container:")):
        raise InvalidParameter(
            "conflicting options: an egress policy needs a network of the container's own "
            f"(network mode {mode})"
        )


def check_plain(host: HostConfig) -> Sequence[str]:
    """Warnings for a container of the host's network. InvalidParameter for what it cannot have."""
    if host.network_mode != "host":
        return ()
    if host.links:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    ports = bool(host.port_bindings)
    return ("Published ports are discarded when using host network mode",) if ports else ()


def domain(container: Container) -> str:
    """What follows the host name in /etc/hosts: `.domain`, and the name without its domain again."""
    config = container.config
    name, dot, _ = config.hostname.partition(".")
    if config.domainname:
        return f".{config.domainname} {config.hostname}"
    return f" {name}" if dot else ""


def owner(container: Container) -> Owner:
    """What networks must know of the container. InvalidParameter for endpoints that do not fit the mode."""
    host, config = container.host, container.config
    mode = mode_of(container)
    asked = dict(container.networking.endpoints_config or {})
    settings = {name: value or EndpointSettings() for name, value in asked.items()}
    if mode not in settings:
        first = settings.pop("default", None) if mode == "bridge" else None
        settings = {mode: first or EndpointSettings(), **settings}
    mine = settings[mode]
    if mode == "bridge" and mine.aliases:
        raise InvalidParameter(
            "invalid config for network bridge: invalid endpoint settings:\n"
            "network-scoped alias is supported only for containers in user defined networks"
        )
    if config.mac_address and not mine.mac_address:
        mine = replace(mine, mac_address=config.mac_address)
    if host.links and mode != "bridge":
        mine = replace(mine, links=(*(mine.links or ()), *host.links))
    settings[mode] = mine
    exposed = tuple(config.exposed_ports or {})
    return Owner(
        id=container.id,
        name=container.name,
        hostname=config.hostname,
        settings=settings,
        ports=host.port_bindings or {},
        exposed=exposed,
        publish_all=host.publish_all_ports,
        dns=host.dns or (),
        dns_search=host.dns_search or (),
        dns_options=host.dns_options or (),
        egress=host.egress or "",
    )
