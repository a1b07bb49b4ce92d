"""Binds, volumes, tmpfs: what is asked for, read and checked; then the mounts of the OCI spec. Pure.

Binds, Mounts, Tmpfs, Volumes ──plans()──► MountPlan, one per destination ──container_mounts()──► oci.Mount
"""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET, Struct
from msgspec.structs import replace

from skiff.docker.container import HostConfig, Mount
from skiff.docker.container_view import MountPoint
from skiff.engine.containers.spec.idmaps import IdMaps
from skiff.errors import InvalidParameter
from skiff.oci import runtime as oci

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
CONSISTENCIES = ("consistent", "cached", "delegated", "default")
MODES = ("ro", "rw", "z", "Z", "", "nocopy", "idmap", *CONSISTENCIES, *PROPAGATIONS)
_TMPFS_OPTION = re.compile(
    r"(?:size|mode|uid|gid|nr_inodes|nr_blocks|mpol)=.*|defaults|ro|rw|(?:a|dir)?sync|r?(?:private|shared|slave)"
    r"|(?:no)?(?:suid|dev|exec|mand|atime|diratime|relatime|strictatime)"
)
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class MountPlan(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One mount of a container, as stored with it.

    type: bind, volume, tmpfs. source: of the host; of a volume once it is known. name: a volume's, empty
    until an anonymous one is made. made: a bind's source is made if it is missing. copies: an empty volume
    receives the image's content. read_only_depth: what a read-only bind does with mounts below its source.
    idmap: whoever owns the source and the container's user are one.
    """

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    labels: dict[str, str] | None = None
    driver_options: dict[str, str] | None = None
    made: bool = False
    copies: bool = True
    recursive: bool = True
    read_only_depth: str = "if-possible"  # or `no`, `force`
    options: tuple[str, ...] = ()
    hidden: bool = False  # --tmpfs: inspect does not list it
    subpath: str = ""  # of a volume: what in it is mounted, relative to its root
    idmap: bool = False

    def point(self) -> MountPoint:
        """As inspect shows it."""
        return MountPoint(
            type=self.type,
            name=self.name or UNSET,
            source=self.source,
            destination=self.destination,
            driver=self.driver or UNSET,
            mode=self.mode,
            rw=self.rw,
            propagation=self.propagation,
        )


def plans(
    host: HostConfig, volumes: Iterable[str], inherited: Sequence[MountPlan] = ()
) -> tuple[MountPlan, ...]:
    """Every mount, one per destination. InvalidParameter in Docker's words.

    volumes: destinations that image and wish declare. inherited: of other containers (VolumesFrom).
    """
    found = {plan.destination: plan for plan in inherited}
    asked: set[str] = set()

    def add(plan: MountPlan) -> None:
        if plan.destination in asked:
            raise InvalidParameter(f"Duplicate mount point: {plan.destination}")
        asked.add(plan.destination)
        found[plan.destination] = plan

    for text in host.binds or ():
        add(parse_bind(text, host.volume_driver))
    for mount in host.mounts or ():
        add(parse_mount(mount))
    for destination, text in (host.tmpfs or {}).items():
        add(_tmpfs(destination, text))
    for destination in volumes:
        clean = _destination(destination, f"invalid volume specification: '{destination}': ")
        if clean not in found:
            found[clean] = MountPlan(type="volume", destination=clean, driver=host.volume_driver)
    return tuple(found.values())


def parse_bind(text: str, driver: str = "") -> MountPlan:
    """One of Binds. InvalidParameter.

    bind := destination | source ":" destination [":" mode ("," mode)*]
    mode := "ro" | "rw" | "z" | "Z" | "nocopy" | "idmap" | propagation | consistency
    source := a path, or a volume's name
    """
    parts = text.split(":")
    is_short_of_a_place = len(parts) == 2 and _is_mode(parts[1])
    if len(parts) > 3 or not parts[0] or is_short_of_a_place:
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    source = parts[0] if len(parts) > 1 else ""
    destination = parts[1] if len(parts) > 1 else parts[0]
    mode = parts[2] if len(parts) > 2 else ""
    words = mode.split(",") if mode else []
    is_bind = source.startswith("/")
    kind = "bind" if is_bind else "volume"
    _check_words(mode)
    prefix = f"invalid volume specification: '{text}': "
    _check_kind(kind, words, prefix)
    destination = _destination(destination, f'{prefix}invalid mount config for type "{kind}": ')
    if not is_bind and source:
        _check_volume_name(source)
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    return MountPlan(
        type=kind,
        destination=destination,
        source=posixpath.normpath(source) if is_bind else "",
        name="" if is_bind else source,
        driver="" if is_bind else driver,
        mode=mode if is_bind or mode else "z",
        rw="ro" not in words,
        propagation=(propagation or "rprivate") if is_bind else "",
        made=is_bind,
        copies="nocopy" not in words,
        idmap="idmap" in words,
    )


def _check_words(mode: str) -> None:
    if not _is_mode(mode):
        raise InvalidParameter(f"invalid mode: {mode}")


def _is_mode(text: str) -> bool:
    words = text.split(",")
    groups = (("ro", "rw"), ("z", "Z"), PROPAGATIONS)
    return all(word in MODES for word in words) and all(
        sum(word in group for word in words) <= 1 for group in groups
    )


def _check_kind(kind: str, words: list[str], prefix: str) -> None:
    """Words that mean nothing to a mount of that kind."""
    config = f'{prefix}invalid mount config for type "{kind}": '
    if kind == "bind" and "nocopy" in words:
        raise InvalidParameter(f"{config}field VolumeOptions must not be specified")
    if kind == "volume" and any(word in (*PROPAGATIONS, "idmap") for word in words):
        raise InvalidParameter(f"{config}field BindOptions must not be specified")


def _check_volume_name(name: str) -> None:
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
    if len(name) < 2:
        raise InvalidParameter(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )


def _destination(text: str, prefix: str) -> str:
    if not text:
        raise InvalidParameter(f"{prefix}field Target must not be empty")
    clean = posixpath.normpath(text)
    if not clean.startswith("/"):
        raise InvalidParameter(f"{prefix}invalid mount path: '{text}' mount path must be absolute")
    clean = "/" + clean.lstrip("/")
    if clean == "/":
        raise InvalidParameter(f"{prefix}invalid specification: destination can't be '/'")
    return clean


def parse_mount(mount: Mount) -> MountPlan:
    """One of Mounts. InvalidParameter in Docker's words."""
    kind = mount.type or ""
    prefix = f'invalid mount config for type "{kind}": '
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidParameter(f"{prefix}mount type unknown")
    for name, value in (
        ("bind", mount.bind_options),
        ("volume", mount.volume_options),
        ("tmpfs", mount.tmpfs_options),
        ("image", mount.image_options),
    ):
        if value is not UNSET and name != kind:
            raise InvalidParameter(f'{name.capitalize()}Options must not be specified on mount type "{kind}"')
    destination = _destination(mount.target or "", prefix)
    source = mount.source or ""
    read_only = bool(mount.read_only)
    if kind == "bind":
        return _bind_mount(mount, destination, source, prefix)
    if kind == "tmpfs":
        if source:
            raise InvalidParameter(f"{prefix}field Source must not be specified")
        return MountPlan(
            type="tmpfs", destination=destination, rw=not read_only, options=_tmpfs_options(mount)
        )
    if source:
        _check_volume_name(source)
    options = mount.volume_options or None
    driver = options.driver_config or None if options else None
    subpath = posixpath.normpath(options.subpath) if options and options.subpath else ""
    if subpath.startswith("/") or subpath.split("/")[0] == "..":
        raise InvalidParameter(f"{prefix}subpath must be a relative path within the volume")
    return MountPlan(
        type="volume",
        destination=destination,
        name=source,
        driver=(driver.name or "") if driver else "",
        driver_options=(driver.options or None) if driver else None,
        labels=(options.labels or None) if options else None,
        copies=not (options and options.no_copy) and not subpath,
        mode="z",
        rw=not read_only,
        subpath="" if subpath == "." else subpath,
    )


def _bind_mount(mount: Mount, destination: str, source: str, prefix: str) -> MountPlan:
    if not source:
        raise InvalidParameter(f"{prefix}field Source must not be empty")
    if not source.startswith("/"):
        raise InvalidParameter(f"{prefix}invalid mount path: '{source}' mount path must be absolute")
    options = mount.bind_options or None
    propagation = (options.propagation or "") if options else ""
    if propagation and propagation not in PROPAGATIONS:
        raise InvalidParameter(f"{prefix}invalid propagation mode: {propagation}")
    depth = "if-possible"
    if options and options.read_only_non_recursive:
        depth = "no"
    if options and options.read_only_force_recursive:
        depth = "force"
    if depth != "if-possible" and not mount.read_only:
        raise InvalidParameter(f"{prefix}mount must be read-only for a read-only mode to be set")
    return MountPlan(
        type="bind",
        destination=destination,
        source=posixpath.normpath(source),
        rw=not mount.read_only,
        propagation=propagation or "rprivate",
        made=bool(options and options.create_mountpoint),
        recursive=not (options and options.non_recursive),
        read_only_depth=depth,
    )


def _tmpfs_options(mount: Mount) -> tuple[str, ...]:
    options = mount.tmpfs_options or None
    if not options:
        return ()
    words = []
    if options.size_bytes:
        words.append(f"size={options.size_bytes}")
    if options.mode:
        words.append(f"mode={options.mode:o}")
    for option in options.options or ():
        if not 1 <= len(option) <= 2:
            raise InvalidParameter('invalid mount config for type "tmpfs": invalid option array length')
        if option[0] not in ("exec", "noexec"):
            raise InvalidParameter(f'invalid mount config for type "tmpfs": invalid option: {option[0]}')
        words.append(option[0])
    return tuple(words)


def _tmpfs(destination: str, text: str) -> MountPlan:
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if not _TMPFS_OPTION.fullmatch(word):
            name = word.partition("=")[0]
            raise InvalidParameter(f'invalid tmpfs option "{name}"')
    clean = _destination(destination, "")
    return MountPlan(type="tmpfs", destination=clean, rw="ro" not in words, options=words, hidden=True)


def container_mounts(
    planned: Iterable[MountPlan],
    *,
    defaults: Sequence[oci.Mount],
    host_files: Mapping[str, str],
    shm: oci.Mount | None,
    privileged: bool,
    readonly_rootfs: bool,
    idmaps: Mapping[str, IdMaps],
) -> tuple[oci.Mount, ...]:
    """The mounts of the OCI spec, in order: the system's, then the container's, outer ones first.

    host_files: destination → source of hosts, hostname, resolv.conf. shm: what /dev/shm is; None for nothing.
    idmaps: of id-mapped binds, by destination.
    A mount of the container's own takes the place of a default one, and of all below it.
    """
    own = sorted(planned, key=lambda plan: plan.destination.count("/"))
    taken = {plan.destination for plan in own}
    mounts: list[oci.Mount] = []
    for mount in defaults:
        if mount.destination == "/dev/shm":
            if shm is None or "/dev/shm" in taken:
                continue
            mount = shm
        if mount.destination in taken or ("/dev" in taken and mount.destination.startswith("/dev/")):
            continue
        if privileged and not readonly_rootfs and mount.type in ("sysfs", "cgroup", "cgroup2"):
            mount = replace(mount, options=tuple(o for o in mount.options if o != "ro"))
        mounts.append(mount)
    for destination, source in host_files.items():
        if destination not in taken:
            options = ("rbind", "rprivate", "ro") if readonly_rootfs else ("rbind", "rprivate")
            mounts.append(oci.Mount(destination=destination, type="bind", source=source, options=options))
    mounts += [_oci_mount(plan, idmaps.get(plan.destination, IdMaps())) for plan in own]
    return tuple(mounts)


def _oci_mount(plan: MountPlan, maps: IdMaps) -> oci.Mount:
    if plan.type == "tmpfs":
        words = ["nosuid", "nodev", *([] if "exec" in plan.options else ["noexec"]), *plan.options]
        if not plan.rw and "ro" not in words:
            words.append("ro")
        return oci.Mount(
            destination=plan.destination, type="tmpfs", source="tmpfs", options=tuple(dict.fromkeys(words))
        )
    words = ["rbind" if plan.recursive else "bind", plan.propagation or "rprivate"]
    if not plan.rw:
        words.append("ro" if plan.read_only_depth == "no" or not plan.recursive else "rro")
    if maps.uids:
        words.append("idmap")
    return oci.Mount(
        destination=plan.destination,
        type="bind",
        source=plan.source,
        options=tuple(words),
        uid_mappings=maps.uids,
        gid_mappings=maps.gids,
    )
