"""The OCI runtime specification as values: config.json and state.json. Pure.

Wire names are camelCase; fields the spec marks optional have their absent value as default and are omitted
when encoded. OCI runtime-spec 1.2, config.md, config-linux.md, runtime.md.
"""

from typing import Any

from msgspec import Struct, field

VERSION = "1.2.0"


class Value(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Base of every part: frozen, camelCase on the wire, defaults omitted."""


class ConsoleSize(Value, frozen=True):
    height: int = 0
    width: int = 0


class User(Value, frozen=True):
    """umask: None leaves the runtime's 0022."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Value, frozen=True):
    """Names as in capabilities(7), `CAP_CHOWN`."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Those of any set."""
        return frozenset((*self.bounding, *self.effective, *self.inheritable, *self.permitted, *self.ambient))


class Rlimit(Value, frozen=True):
    """type: `RLIMIT_NOFILE`. soft and hard: -1 or 2**64-1 for unlimited."""

    type: str
    soft: int = 0
    hard: int = 0


class Process(Value, frozen=True):
    """One process of a container: its init, or an exec. config.md § Process."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    io_priority: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None


class Root(Value, frozen=True):
    path: str = "rootfs"
    readonly: bool = False


class IdMapping(Value, frozen=True):
    container_id: int = field(name="containerID", default=0)
    host_id: int = field(name="hostID", default=0)
    size: int = 0


class Mount(Value, frozen=True):
    """A mount as the spec writes it. The common speech of snapshotters, volumes and the runtime.

    options: those of mount(8) plus the spec's own (`rbind`, `rro`, `idmap`, `tmpcopyup`); config.md § Mounts.
    destination: absolute, inside the container's root; symlinks in it are resolved inside that root.
    """

    destination: str = ""
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Hook(Value, frozen=True):
    """timeout: seconds; None waits for ever."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(Value, frozen=True):
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(Value, frozen=True):
    """type: pid network mount ipc uts user cgroup time. path: join that one instead of a new one."""

    type: str
    path: str = ""


class Device(Value, frozen=True):
    """A node to make. file_mode: permission bits; None means 0666."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class DeviceRule(Value, frozen=True):
    """One line of the device cgroup. None matches every number; type `a` every kind."""

    allow: bool = False
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class MemoryLimits(Value, frozen=True):
    """Bytes; -1 is unlimited; None leaves it alone. swap is memory plus swap, as in cgroup v1."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = field(name="kernelTCP", default=None)
    swappiness: int | None = None
    disable_oom_killer: bool = field(name="disableOOMKiller", default=False)
    use_hierarchy: bool | None = None
    check_before_update: bool = False


class CPULimits(Value, frozen=True):
    """quota, period, burst in microseconds; cpus and mems in list format, `0-3,7`."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class PidsLimits(Value, frozen=True):
    """limit: 0 or less is unlimited."""

    limit: int = 0


class WeightDevice(Value, frozen=True):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(Value, frozen=True):
    """rate: bytes or operations a second."""

    major: int
    minor: int
    rate: int


class BlockIO(Value, frozen=True):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = field(name="throttleReadIOPSDevice", default=())
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = field(name="throttleWriteIOPSDevice", default=())


class HugepageLimit(Value, frozen=True):
    """page_size: `2MB`. limit: bytes."""

    page_size: str
    limit: int


class Resources(Value, frozen=True):
    devices: tuple[DeviceRule, ...] = ()
    memory: MemoryLimits | None = None
    cpu: CPULimits | None = None
    pids: PidsLimits | None = None
    block_io: BlockIO | None = field(name="blockIO", default=None)
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: dict[str, Any] | None = None
    rdma: dict[str, Any] | None = None
    unified: dict[str, str] = field(default_factory=dict)


class SyscallArg(Value, frozen=True):
    """op: SCMP_CMP_EQ NE LT LE GE GT MASKED_EQ."""

    index: int
    value: int
    value_two: int = 0
    op: str = "SCMP_CMP_EQ"


class SyscallRule(Value, frozen=True):
    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SyscallArg, ...] = ()


class Seccomp(Value, frozen=True):
    """config-linux.md § Seccomp. The filter before compilation."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SyscallRule, ...] = ()


class Linux(Value, frozen=True):
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    sysctl: dict[str, str] = field(default_factory=dict)
    resources: Resources | None = None
    cgroups_path: str = ""
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[Device, ...] = ()
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    time_offsets: dict[str, Any] | None = None
    personality: dict[str, Any] | None = None


class Spec(Value, frozen=True):
    """config.json of a bundle."""

    oci_version: str = field(name="ociVersion", default="")
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    linux: Linux | None = None


class State(Value, frozen=True):
    """What `state` prints and hooks read on stdin; runtime.md § State."""

    oci_version: str = field(name="ociVersion", default=VERSION)
    id: str = ""
    status: str = ""
    pid: int = 0
    bundle: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
