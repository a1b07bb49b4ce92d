"""Records → the shapes of the Engine API. Pure."""

from ipaddress import ip_interface

from msgspec.structs import replace

from skiff.docker.network import (
    ConfigReference,
    EndpointSettings,
    NetworkContainer,
    NetworkInspect,
    PortBinding,
    PortMap,
)
from skiff.docker.units import rfc3339
from skiff.engine.networks.record import Endpoint, Network, Owner, Records, StoredPort


def inspect(records: Records, network: Network, *, containers: bool = True) -> NetworkInspect:
    """A network as inspect shows it; the list shows no containers."""
    inside = {
        e.owner: NetworkContainer(
            name=e.owner_name,
            endpoint_id=e.id,
            mac_address=e.mac,
            ipv4_address=e.ipv4,
            ipv6_address=e.ipv6,
        )
        for e in records.on_network(network.id)
        if e.is_attached
    }
    return NetworkInspect(
        name=network.name,
        id=network.id,
        created=rfc3339(network.created_ns),
        driver=network.driver,
        enable_ipv4=network.ipv4,
        enable_ipv6=network.ipv6,
        ipam=network.asked,
        internal=network.internal,
        attachable=network.attachable,
        config_from=ConfigReference(network.config_from),
        config_only=network.config_only,
        containers=inside if containers else {},
        options=network.options,
        labels=network.labels,
    )


def endpoint_settings(network: Network, endpoint: Endpoint) -> EndpointSettings:
    """A container's place in a network as its inspect shows it: what was asked, and what it has now."""
    asked = endpoint.settings
    names = endpoint.names if network.has_resolver else None
    if not endpoint.is_attached:
        return replace(asked, network_id=network.id, dns_names=names)
    gateway = {4: "", 6: ""}
    for stored in network.ranges:
        scope = stored.range()
        if not network.internal:
            gateway[scope.subnet.version] = str(scope.gateway)
    ipv4 = ip_interface(endpoint.ipv4) if endpoint.ipv4 else None
    ipv6 = ip_interface(endpoint.ipv6) if endpoint.ipv6 else None
    return replace(
        asked,
        mac_address=endpoint.mac,
        network_id=network.id,
        endpoint_id=endpoint.id,
        gateway=gateway[4] if ipv4 else "",
        ip_address=str(ipv4.ip) if ipv4 else "",
        ip_prefix_len=ipv4.network.prefixlen if ipv4 else 0,
        ipv6_gateway=gateway[6] if ipv6 else "",
        global_ipv6_address=str(ipv6.ip) if ipv6 else "",
        global_ipv6_prefix_len=ipv6.network.prefixlen if ipv6 else 0,
        dns_names=names,
    )


def port_map(owner: Owner, published: tuple[StoredPort, ...]) -> PortMap:
    """NetworkSettings.Ports: every exposed port, with its bindings or null."""
    found: dict[str, list[PortBinding]] = {}
    for port in published:
        binding = PortBinding(host_ip=port.host, host_port=str(port.host_port or ""))
        found.setdefault(f"{port.container_port}/{port.protocol}", []).append(binding)
    keys = sorted({*owner.exposed, *owner.ports, *found})
    return {key: tuple(found[key]) if key in found else None for key in keys}
