"""What clients of older versions ask, as the newest version would have it. Pure.

A field that a version did not have is not there: it is left out as Docker leaves it out, or refused where
leaving it out would do harm. Engine API, version history.
"""

from msgspec import UNSET
from msgspec.structs import replace

from skiff.docker.container import ContainerCreate, ContainerUpdate, HostConfig, Mount
from skiff.docker.exec import ExecCreate
from skiff.docker.network import NetworkCreate
from skiff.engine.api.versions import Version
from skiff.errors import InvalidParameter


def create(wish: ContainerCreate, version: Version) -> ContainerCreate:
    """Body of POST /containers/create. InvalidParameter."""
    wish = replace(wish, host_config=_host(wish.host_config, version))
    if version < (1, 44):
        if wish.healthcheck:
            wish = replace(wish, healthcheck=replace(wish.healthcheck, start_interval=UNSET))
        networks = sorted(wish.networking_config.endpoints_config or {})
        if len(networks) > 1:
            raise InvalidParameter(
                f"Container cannot be created with multiple network endpoints: {', '.join(networks)}"
            )
    return wish


def _host(host: HostConfig, version: Version) -> HostConfig:
    if version < (1, 25):
        host = replace(host, auto_remove=False)
    if version < (1, 40):
        host = replace(host, kernel_memory_tcp=UNSET)
        if not host.ipc_mode:  # the daemon's default is private; older clients were promised this one
            host = replace(host, ipc_mode="shareable")
    if version < (1, 41) and not host.cgroupns_mode:
        host = replace(host, cgroupns_mode="host")
    if version < (1, 42):
        host = replace(host, console_size=(0, 0))
    if version < (1, 43):
        host = replace(host, annotations=UNSET)
    if version < (1, 48) and host.mounts:
        host = replace(host, mounts=tuple(_mount(mount, version) for mount in host.mounts))
    return host


def _mount(mount: Mount, version: Version) -> Mount:
    if mount.type == "image":
        raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')
    if version < (1, 45) and mount.volume_options and mount.volume_options.subpath:
        raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
    options = mount.bind_options
    if not options or version >= (1, 44):
        return mount
    if options.read_only_force_recursive:
        raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if mount.type == "bind" and mount.read_only:  # what lies below was not made read-only then
        options = replace(options, read_only_non_recursive=True)
    if version < (1, 42):
        options = replace(options, create_mountpoint=UNSET)
    if version < (1, 40):
        options = replace(options, non_recursive=UNSET)
    return replace(mount, bind_options=options)


def update(wish: ContainerUpdate, version: Version) -> ContainerUpdate:
    """Body of POST /containers/{id}/update."""
    return replace(wish, pids_limit=None) if version < (1, 40) else wish


def exec(wish: ExecCreate, version: Version) -> ExecCreate:
    """Body of POST /containers/{id}/exec."""
    return replace(wish, console_size=None) if version < (1, 42) else wish


def network(wish: NetworkCreate, version: Version) -> NetworkCreate:
    """Body of POST /networks/create."""
    return replace(wish, enable_ipv4=True) if version < (1, 48) else wish
