"""What a client asks of a container, as the Engine API spells it. Pure.

Engine API 1.51: ContainerConfig, HostConfig, Resources, Mount, ContainerCreateRequest. Every field is kept
exactly as it came, so that inspect echoes create; the order is that of Docker's replies. What Docker omits
when it is empty is UNSET. What the engine answers is in container_view.py.
"""

from typing import Any

from msgspec import UNSET, UnsetType, field

from skiff.docker.network import NetworkingConfig, PortMap
from skiff.docker.wire import Wire


class HealthConfig(Wire, frozen=True):
    """Test: [] inherit, ["NONE"], ["CMD", …], ["CMD-SHELL", line]. Spans in ns, 0 for the default."""

    test: tuple[str, ...] | UnsetType = UNSET
    interval: int | UnsetType = UNSET
    timeout: int | UnsetType = UNSET
    start_period: int | UnsetType = UNSET
    start_interval: int | UnsetType = UNSET
    retries: int | UnsetType = UNSET


class ContainerConfig(Wire, frozen=True):
    """What is asked of the process; an image's config has the same fields.

    env: `NAME=value` or bare `NAME`.
    """

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | UnsetType = UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: HealthConfig | UnsetType = UNSET
    args_escaped: bool | UnsetType = UNSET
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: tuple[str, ...] | None = None
    network_disabled: bool | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    on_build: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType = UNSET
    stop_timeout: int | UnsetType = UNSET  # seconds
    shell: tuple[str, ...] | UnsetType = UNSET


class LogConfig(Wire, frozen=True):
    """type: empty for the engine's default."""

    type: str = ""
    config: dict[str, str] | None = None


class RestartPolicy(Wire, frozen=True):
    """name: empty or no, always, unless-stopped, on-failure. maximum_retry_count: 0 for no limit."""

    name: str = ""
    maximum_retry_count: int = 0


class WeightDevice(Wire, frozen=True):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Wire, frozen=True):
    """rate: bytes or operations a second."""

    path: str = ""
    rate: int = 0


Throttles = tuple[ThrottleDevice, ...] | None


class DeviceMapping(Wire, frozen=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Wire, frozen=True):
    driver: str = ""
    count: int = 0
    device_ids: tuple[str, ...] | None = field(name="DeviceIDs", default=None)
    capabilities: tuple[tuple[str, ...], ...] | None = None
    options: dict[str, str] | None = None


class Ulimit(Wire, frozen=True):
    """name: `nofile`. hard, soft: -1 for unlimited."""

    name: str = ""
    hard: int = 0
    soft: int = 0


class BindOptions(Wire, frozen=True):
    propagation: str | UnsetType = UNSET
    non_recursive: bool | UnsetType = UNSET
    create_mountpoint: bool | UnsetType = UNSET
    read_only_non_recursive: bool | UnsetType = UNSET
    read_only_force_recursive: bool | UnsetType = UNSET


class DriverConfig(Wire, frozen=True):
    name: str | UnsetType = UNSET
    options: dict[str, str] | UnsetType = UNSET


class VolumeOptions(Wire, frozen=True):
    no_copy: bool | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    subpath: str | UnsetType = UNSET
    driver_config: DriverConfig | UnsetType = UNSET


class ImageOptions(Wire, frozen=True):
    subpath: str | UnsetType = UNSET


class TmpfsOptions(Wire, frozen=True):
    """size_bytes: 0 for no limit. mode: permission bits as an integer."""

    size_bytes: int | UnsetType = UNSET
    mode: int | UnsetType = UNSET
    options: tuple[tuple[str, ...], ...] | UnsetType = UNSET


class Mount(Wire, frozen=True):
    """A mount that was asked for. type: bind volume tmpfs image npipe cluster."""

    type: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    consistency: str | UnsetType = UNSET
    bind_options: BindOptions | UnsetType = UNSET
    volume_options: VolumeOptions | UnsetType = UNSET
    image_options: ImageOptions | UnsetType = UNSET
    tmpfs_options: TmpfsOptions | UnsetType = UNSET


class Resources(Wire, frozen=True):
    """Limits: the part of HostConfig that an update may change. Bytes, microseconds, 1e-9 CPUs."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: tuple[WeightDevice, ...] | None = None
    blkio_device_read_bps: Throttles = None
    blkio_device_write_bps: Throttles = None
    blkio_device_read_iops: Throttles = field(name="BlkioDeviceReadIOps", default=None)
    blkio_device_write_iops: Throttles = field(name="BlkioDeviceWriteIOps", default=None)
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: tuple[DeviceMapping, ...] | None = None
    device_cgroup_rules: tuple[str, ...] | None = None
    device_requests: tuple[DeviceRequest, ...] | None = None
    kernel_memory: int | UnsetType = UNSET
    kernel_memory_tcp: int | UnsetType = field(name="KernelMemoryTCP", default=UNSET)
    memory_reservation: int = 0
    memory_swap: int = 0  # memory plus swap; -1 unlimited
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = False
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(name="IOMaximumIOps", default=0)
    io_maximum_bandwidth: int = field(name="IOMaximumBandwidth", default=0)


class HostConfig(Resources, frozen=True):
    """What is asked of this host."""

    binds: tuple[str, ...] | None = None
    container_id_file: str = field(name="ContainerIDFile", default="")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: PortMap | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: tuple[str, ...] | None = None
    console_size: tuple[int, ...] | None = (0, 0)  # height, width
    annotations: dict[str, str] | UnsetType = UNSET
    cap_add: tuple[str, ...] | None = None
    cap_drop: tuple[str, ...] | None = None
    cgroupns_mode: str = ""
    dns: tuple[str, ...] | None = None
    dns_options: tuple[str, ...] | None = None
    dns_search: tuple[str, ...] | None = None
    extra_hosts: tuple[str, ...] | None = None
    group_add: tuple[str, ...] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: tuple[str, ...] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] | None = None
    storage_opt: dict[str, str] | UnsetType = UNSET
    tmpfs: dict[str, str] | UnsetType = UNSET
    uts_mode: str = field(name="UTSMode", default="")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | UnsetType = UNSET
    runtime: str = ""
    isolation: str = ""
    mounts: tuple[Mount, ...] | UnsetType = UNSET
    masked_paths: tuple[str, ...] | None = None  # None: the default ones; empty: none
    readonly_paths: tuple[str, ...] | None = None
    init: bool | UnsetType | None = UNSET
    egress: str | UnsetType = UNSET  # skiff's own: where packets may go


class ContainerCreate(ContainerConfig, frozen=True):
    """Body of POST /containers/create: a ContainerConfig with more fields.

    runtime: where older clients (docker-py) put HostConfig's.
    """

    host_config: HostConfig = HostConfig()
    runtime: str = ""
    networking_config: NetworkingConfig = NetworkingConfig()


class CreateResponse(Wire, frozen=True):
    id: str
    warnings: tuple[str, ...] = ()


class ContainerUpdate(Resources, frozen=True):
    """Body of POST /containers/{id}/update."""

    init: bool | UnsetType | None = UNSET
    restart_policy: RestartPolicy = RestartPolicy()


class UpdateResponse(Wire, frozen=True):
    warnings: tuple[str, ...] | None = None
