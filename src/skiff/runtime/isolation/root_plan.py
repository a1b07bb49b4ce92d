"""From a spec to the mounts, nodes and masks of a container's root: a list of steps, in order. Pure.

rootfs.py runs them. What the host gives and what the container finds are told apart by the kind of step.
"""

import posixpath
import stat
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from skiff.linux import mounts
from skiff.linux.cgroups import Layout
from skiff.linux.mounts import Options
from skiff.oci.runtime import IdMapping, Mount, Spec
from skiff.runtime.isolation.handshake import StepFailed

# Every container has these; runtime-spec 1.2, config-linux.md § Default Devices
DEFAULT_NODES: Final = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
DEFAULT_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_KINDS: Final = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Bind(Struct, frozen=True):
    """A file or directory of the host. idmap: owners are shifted by these maps (uids, gids)."""

    source: str
    target: str
    options: Options
    idmap: tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] | None = None


class Filesystem(Struct, frozen=True):
    kind: str
    source: str
    target: str
    options: Options


class Link(Struct, frozen=True):
    """A symlink; one that is there already stays."""

    path: str
    to: str


class Node(Struct, frozen=True):
    path: str
    mode: int
    major: int
    minor: int
    uid: int
    gid: int


class Mask(Struct, frozen=True):
    """Nothing can be read there: /dev/null over a file, an empty read-only tmpfs over a directory."""

    path: str


class ReadOnly(Struct, frozen=True):
    """What is there can only be read.

    whole: with all that is mounted below; else only the mount on that place.
    """

    path: str
    whole: bool = True


Step = Bind | Filesystem | Link | Node | Mask | ReadOnly


def plan(spec: Spec, here: Layout, cgroup: str, *, new_user: bool, new_cgroup: bool) -> list[Step]:
    """The steps for everything below the root, in order. StepFailed for what cannot be meant.

    here, cgroup: for mounts of type `cgroup`. new_user: nodes cannot be made, so they are bound.
    new_cgroup: the container sees only its own groups.
    """
    steps: list[Step] = []
    for mount in spec.mounts:
        if not mount.destination:
            raise StepFailed("mount", text="a mount without a destination")
        options = mounts.parse(mount.options)
        if mount.type == "bind" or options.flags & mounts.MS_BIND:
            idmap = _idmap(mount, options, spec)
            steps.append(Bind(mount.source, mount.destination, options, idmap))
        elif mount.type in ("cgroup", "cgroup2"):
            steps.extend(_cgroup_mounts(mount.destination, options, here, cgroup, own=new_cgroup))
        else:
            if mount.uid_mappings or options.idmap:
                raise StepFailed(f"mount {mount.destination}", text="idmap is for bind mounts only")
            steps.append(Filesystem(mount.type, mount.source or mount.type, mount.destination, options))
    steps.extend(_nodes(spec, bound=new_user))
    steps.extend(Link(path, to) for path, to in DEFAULT_LINKS)
    if spec.linux:
        steps.extend(ReadOnly(path) for path in spec.linux.readonly_paths)
        steps.extend(Mask(path) for path in spec.linux.masked_paths)
    return steps


def _idmap(
    mount: Mount, options: Options, spec: Spec
) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] | None:
    if mount.uid_mappings or mount.gid_mappings:
        return mount.uid_mappings, mount.gid_mappings
    if not options.idmap:
        return None
    if not spec.linux or not spec.linux.uid_mappings:
        raise StepFailed(f"mount {mount.destination}", text="idmap without any id mappings")
    return spec.linux.uid_mappings, spec.linux.gid_mappings


def _cgroup_mounts(target: str, options: Options, here: Layout, cgroup: str, *, own: bool) -> Iterator[Step]:
    """v2 alone: cgroup2. v1 or hybrid: a tmpfs with one directory per hierarchy."""

    def view(kind: str, point: str, at: str, data: tuple[str, ...]) -> Step:
        if own:
            return Filesystem(kind, "cgroup", at, Options(flags=options.flags, data=data))
        return Bind(f"{point}{cgroup}", at, Options(flags=options.flags | mounts.MS_BIND))

    if not here.v1:
        yield view("cgroup2", here.v2, target, ())
        return
    guarded = options.flags & ~mounts.MS_RDONLY
    yield Filesystem("tmpfs", "tmpfs", target, Options(flags=guarded, data=("mode=755",)))
    by_point: dict[str, list[str]] = {}
    for controller, point in here.v1.items():
        by_point.setdefault(point, []).append(controller)
    for point, controllers in by_point.items():
        name = posixpath.basename(point)
        data = tuple(c for c in controllers)
        if any(c.startswith("name=") for c in controllers):
            data = ("none", *controllers)
        yield view("cgroup", point, f"{target}/{name}", data)
        for controller in controllers:
            if len(controllers) > 1 and controller != name:
                yield Link(f"{target}/{controller}", name)
    if here.v2:
        yield view("cgroup2", here.v2, f"{target}/{posixpath.basename(here.v2)}", ())
    if options.flags & mounts.MS_RDONLY:
        yield ReadOnly(target, whole=False)


def _nodes(spec: Spec, *, bound: bool) -> Iterator[Step]:
    if not any(mount.destination.rstrip("/") == "/dev" for mount in spec.mounts):
        wanted: dict[str, Node] = {}
    else:
        wanted = {
            path: Node(path, stat.S_IFCHR | 0o666, major, minor, 0, 0) for path, major, minor in DEFAULT_NODES
        }
    for device in spec.linux.devices if spec.linux else ():
        if device.type not in _KINDS:
            raise StepFailed(f"mknod {device.path}", text=f"unknown device type {device.type!r}")
        permissions = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        wanted[device.path] = Node(
            device.path,
            _KINDS[device.type] | permissions,
            device.major,
            device.minor,
            device.uid,
            device.gid,
        )
    for node in wanted.values():
        yield Bind(node.path, node.path, Options(flags=mounts.MS_BIND)) if bound else node
