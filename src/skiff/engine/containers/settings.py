"""What an administrator may set for all containers. A value; engine/settings.py reads it from files."""

from msgspec import Struct, field

from skiff.docker.container import Ulimit


class ContainerSettings(Struct, frozen=True, kw_only=True):
    """runtimes: name → argv of a runc-compatible program; empty argv: our own isolation.

    seccomp_profile: JSON text of the profile that replaces the default; empty for the default.
    cgroupns_mode: host or private. cgroup_parent: path below every controller. shm_size: bytes.
    """

    cgroup_parent: str = "/skiff"
    cgroupns_mode: str = "private"
    ipc_mode: str = "private"
    runtimes: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"skiff": ()})
    default_runtime: str = "skiff"
    log_driver: str = "json-file"
    log_options: dict[str, str] = field(default_factory=dict)
    ulimits: tuple[Ulimit, ...] = ()
    init: bool = False
    no_new_privileges: bool = False
    seccomp_profile: str = ""
    shm_size: int = 64 << 20
    stop_timeout: int = 10
