"""Devices of this host, as containers are given them: what a path is, and every node for a privileged one."""

import os
import stat
from collections.abc import Iterable, Iterator

from skiff.docker.container import DeviceMapping, HostConfig, Throttles
from skiff.errors import InvalidParameter
from skiff.oci import runtime as oci

# these are the container's own: made or mounted anew
OWN = frozenset(("pts", "shm", "fd", "mqueue", "console", "ptmx", "stdin", "stdout", "stderr", "core"))


def mapped(wish: Iterable[DeviceMapping]) -> Iterator[tuple[oci.Device, str]]:
    """Each node with its access. A directory is all nodes in it. InvalidParameter in Docker's words."""
    for mapping in wish:
        target = mapping.path_in_container or mapping.path_on_host
        access = mapping.cgroup_permissions or "rwm"
        if not set(access) <= set("rwm"):
            raise InvalidParameter(f"invalid device mode: {access}")
        try:
            yield from ((node, access) for node in _nodes(mapping.path_on_host, target))
        except FileNotFoundError:
            raise InvalidParameter(
                f'error gathering device information while adding custom device "{mapping.path_on_host}": '
                "no such file or directory"
            ) from None


def _nodes(path: str, target: str) -> list[oci.Device]:
    about = os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        return [
            node for name in sorted(os.listdir(path)) for node in _inner(f"{path}/{name}", f"{target}/{name}")
        ]
    node = _node(about, target)
    if node is None:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{path}": not a device node'
        )
    return [node]


def _inner(path: str, target: str) -> list[oci.Device]:
    try:
        about = os.stat(path)
    except OSError:
        return []
    if stat.S_ISDIR(about.st_mode):
        return _nodes(path, target)
    node = _node(about, target)
    return [node] if node else []


def _node(about: os.stat_result, target: str) -> oci.Device | None:
    kind = "c" if stat.S_ISCHR(about.st_mode) else "b" if stat.S_ISBLK(about.st_mode) else ""
    if not kind:
        return None
    return oci.Device(
        path=target,
        type=kind,
        major=os.major(about.st_rdev),
        minor=os.minor(about.st_rdev),
        file_mode=stat.S_IMODE(about.st_mode),
        uid=about.st_uid,
        gid=about.st_gid,
    )


def every(root: str = "/dev") -> list[tuple[oci.Device, str]]:
    """All nodes of the host but those that a container has of its own."""
    found = []
    for name in sorted(os.listdir(root)):
        if name not in OWN and not os.path.islink(f"{root}/{name}"):
            found += [(node, "rwm") for node in _inner(f"{root}/{name}", f"{root}/{name}")]
    return found


def block_io(host: HostConfig) -> oci.BlockIO | None:
    """The limits that name devices, by number. InvalidParameter."""
    limits = oci.BlockIO(
        weight_device=tuple(
            oci.WeightDevice(*_number(entry.path), weight=entry.weight)
            for entry in host.blkio_weight_device or ()
        ),
        throttle_read_bps_device=_throttles(host.blkio_device_read_bps),
        throttle_write_bps_device=_throttles(host.blkio_device_write_bps),
        throttle_read_iops_device=_throttles(host.blkio_device_read_iops),
        throttle_write_iops_device=_throttles(host.blkio_device_write_iops),
    )
    return None if limits == oci.BlockIO() else limits


def _throttles(asked: Throttles) -> tuple[oci.ThrottleDevice, ...]:
    return tuple(oci.ThrottleDevice(*_number(entry.path), rate=entry.rate) for entry in asked or ())


def _number(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)
    except OSError as error:
        raise InvalidParameter(f"{path}: {(error.strerror or '').lower()}") from None
    return os.major(about.st_rdev), os.minor(about.st_rdev)
