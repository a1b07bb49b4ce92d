"""What the engine answers about a container, as the Engine API spells it. Pure.

Engine API 1.51: ContainerSummary, ContainerInspectResponse, ContainerState, ContainerWaitResponse. What is
asked for is in container.py.
"""

from msgspec import UNSET, Raw, UnsetType, field

from skiff.docker.container import ContainerConfig, HostConfig
from skiff.docker.image import GraphDriverData
from skiff.docker.network import EndpointSettings, PortMap
from skiff.docker.wire import Wire

NEVER = "0001-01-01T00:00:00Z"  # Docker's zero time


class HealthcheckResult(Wire, frozen=True):
    """One probe. start, end: RFC 3339 with nanoseconds."""

    start: str = NEVER
    end: str = NEVER
    exit_code: int = 0
    output: str = ""


class Health(Wire, frozen=True):
    """status: none starting healthy unhealthy. log: the last five probes, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthcheckResult, ...] = ()


class ContainerState(Wire, frozen=True):
    """State as stored and as inspect shows it.

    status: created running paused restarting removing exited dead. A paused container is running, and so is
    a restarting one that waits for its next start (Docker says Running: true there). Instants: RFC 3339 UTC.
    """

    status: str = "created"
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = field(name="OOMKilled", default=False)
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = NEVER
    finished_at: str = NEVER
    health: Health | UnsetType = UNSET


class MountPoint(Wire, frozen=True):
    """A mount as inspect shows it. type: bind volume tmpfs image."""

    type: str = ""
    name: str | UnsetType = UNSET
    source: str = ""
    destination: str = ""
    driver: str | UnsetType = UNSET
    mode: str = ""
    rw: bool = field(name="RW", default=True)
    propagation: str = ""


class Address(Wire, frozen=True):
    addr: str = ""
    prefix_len: int = 0


class NetworkSettings(Wire, frozen=True):
    """The flat addresses repeat those of the default bridge; API versions before 1.52 carry them."""

    bridge: str = ""
    sandbox_id: str = field(name="SandboxID", default="")
    sandbox_key: str = ""
    ports: PortMap = field(default_factory=dict)
    hairpin_mode: bool = False
    link_local_ipv6_address: str = field(name="LinkLocalIPv6Address", default="")
    link_local_ipv6_prefix_len: int = field(name="LinkLocalIPv6PrefixLen", default=0)
    secondary_ip_addresses: tuple[Address, ...] | None = field(name="SecondaryIPAddresses", default=None)
    secondary_ipv6_addresses: tuple[Address, ...] | None = field(name="SecondaryIPv6Addresses", default=None)
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = field(default_factory=dict)


class ContainerInspect(Wire, frozen=True):
    """GET /containers/{id}/json. created: RFC 3339 with nanoseconds."""

    id: str = ""
    created: str = ""
    path: str = ""
    args: tuple[str, ...] = ()
    state: ContainerState = ContainerState()
    image: str = ""
    resolv_conf_path: str = ""
    hostname_path: str = ""
    hosts_path: str = ""
    log_path: str = ""
    name: str = ""
    restart_count: int = 0
    driver: str = ""
    platform: str = "linux"
    mount_label: str = ""
    process_label: str = ""
    app_armor_profile: str = ""
    exec_ids: tuple[str, ...] | None = field(name="ExecIDs", default=None)
    host_config: HostConfig | Raw = HostConfig()
    graph_driver: GraphDriverData = GraphDriverData()
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    mounts: tuple[MountPoint, ...] = ()
    config: ContainerConfig | Raw = ContainerConfig()
    network_settings: NetworkSettings = NetworkSettings()


class PortSummary(Wire, frozen=True):
    """A port in the list of containers. public_port: absent when it is only exposed."""

    ip: str | UnsetType = field(name="IP", default=UNSET)
    private_port: int = 0
    public_port: int | UnsetType = UNSET
    type: str = "tcp"


class SummaryHostConfig(Wire, frozen=True):
    network_mode: str = ""
    annotations: dict[str, str] | UnsetType = UNSET


class SummaryNetworkSettings(Wire, frozen=True):
    networks: dict[str, EndpointSettings] = field(default_factory=dict)


class ContainerSummary(Wire, frozen=True):
    """A row of GET /containers/json. created: unix seconds. status: `Up 2 hours (healthy)`."""

    id: str = ""
    names: tuple[str, ...] = ()
    image: str = ""
    image_id: str = field(name="ImageID", default="")
    command: str = ""
    created: int = 0
    ports: tuple[PortSummary, ...] = ()
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
    labels: dict[str, str] = field(default_factory=dict)
    state: str = ""
    status: str = ""
    host_config: SummaryHostConfig = SummaryHostConfig()
    network_settings: SummaryNetworkSettings = SummaryNetworkSettings()
    mounts: tuple[MountPoint, ...] = ()


class WaitError(Wire, frozen=True):
    message: str = ""


class WaitResponse(Wire, frozen=True):
    """POST /containers/{id}/wait. status_code: the exit code."""

    status_code: int = 0
    error: WaitError | UnsetType = UNSET


class TopResponse(Wire, frozen=True):
    """GET /containers/{id}/top."""

    titles: tuple[str, ...] = ()
    processes: tuple[tuple[str, ...], ...] = ()


class ContainersPruneReport(Wire, frozen=True):
    """space_reclaimed: bytes."""

    containers_deleted: tuple[str, ...] | None = None
    space_reclaimed: int = 0
