"""Networks and endpoints as the Engine API spells them. Pure.

Engine API 1.51: Network, NetworkCreateRequest, EndpointSettings, PortBinding.
"""

from typing import Any

from msgspec import UNSET, UnsetType, field

from skiff.docker.wire import Wire


class PortBinding(Wire, frozen=True):
    """Where a container's port is published. host_port: decimal, a range `8000-8010`, or empty for any."""

    host_ip: str = ""
    host_port: str = ""


PortMap = dict[str, tuple[PortBinding, ...] | None]  # "80/tcp" → bindings


class EndpointIPAMConfig(Wire, frozen=True):
    """The addresses a client asks for."""

    ipv4_address: str | UnsetType = field(name="IPv4Address", default=UNSET)
    ipv6_address: str | UnsetType = field(name="IPv6Address", default=UNSET)
    link_local_ips: tuple[str, ...] | UnsetType = field(name="LinkLocalIPs", default=UNSET)


class EndpointSettings(Wire, frozen=True):
    """A container's place in a network: what was asked (first half), what it got (second half)."""

    ipam_config: EndpointIPAMConfig | None = field(name="IPAMConfig", default=None)
    links: tuple[str, ...] | None = None
    aliases: tuple[str, ...] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(name="NetworkID", default="")
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    dns_names: tuple[str, ...] | None = field(name="DNSNames", default=None)


class NetworkingConfig(Wire, frozen=True):
    """The endpoints that a container is created with, by network name."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class IPAMConfig(Wire, frozen=True):
    subnet: str | UnsetType = UNSET
    ip_range: str | UnsetType = field(name="IPRange", default=UNSET)
    gateway: str | UnsetType = UNSET
    auxiliary_addresses: dict[str, str] | UnsetType = UNSET


class IPAM(Wire, frozen=True):
    driver: str = "default"
    options: dict[str, str] | None = None
    config: tuple[IPAMConfig, ...] | None = None


class ConfigReference(Wire, frozen=True):
    network: str = ""


class NetworkContainer(Wire, frozen=True):
    """A container as a network's inspect lists it. Addresses carry their prefix, `172.17.0.2/16`."""

    name: str = ""
    endpoint_id: str = field(name="EndpointID", default="")
    mac_address: str = ""
    ipv4_address: str = field(name="IPv4Address", default="")
    ipv6_address: str = field(name="IPv6Address", default="")


class NetworkInspect(Wire, frozen=True):
    """Engine API, Network. created: RFC 3339 with nanoseconds."""

    name: str = ""
    id: str = ""
    created: str = ""
    scope: str = "local"
    driver: str = ""
    enable_ipv4: bool = field(name="EnableIPv4", default=True)
    enable_ipv6: bool = field(name="EnableIPv6", default=False)
    ipam: IPAM = field(name="IPAM", default=IPAM())
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: ConfigReference = ConfigReference()
    config_only: bool = False
    containers: dict[str, NetworkContainer] | UnsetType = UNSET
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkCreate(Wire, frozen=True):
    """Body of POST /networks/create."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    ipam: IPAM | None = field(name="IPAM", default=None)
    enable_ipv4: bool | None = field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = field(name="EnableIPv6", default=None)
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    check_duplicate: Any = None  # always so, since API 1.44


class NetworkCreateResponse(Wire, frozen=True):
    id: str
    warning: str = ""


class NetworkConnect(Wire, frozen=True):
    """Body of POST /networks/{id}/connect."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(Wire, frozen=True):
    """Body of POST /networks/{id}/disconnect."""

    container: str = ""
    force: bool = False
