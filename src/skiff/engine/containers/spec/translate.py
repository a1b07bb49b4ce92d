"""A container as an OCI runtime spec, and an exec as an OCI process. Pure.

What it cannot know comes in: Ground holds what is the same for all containers of this engine, Circumstances
what was found out for this start.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from skiff.docker.container import ContainerConfig, HostConfig
from skiff.engine.containers.spec import limits, mounts, security
from skiff.engine.containers.spec.idmaps import IdMaps
from skiff.engine.containers.spec.users import Identity
from skiff.oci import runtime as oci

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Ground(Struct, frozen=True, kw_only=True):
    """The same for every container. available: capabilities this engine may grant at all."""

    machine: limits.Machine
    capabilities: tuple[str, ...]
    available: tuple[str, ...]
    mounts: tuple[oci.Mount, ...]
    device_rules: tuple[oci.DeviceRule, ...]
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    rlimits: tuple[oci.Rlimit, ...] = ()
    no_new_privileges: bool = False
    cgroup_parent: str = "/skiff"


class Circumstances(Struct, frozen=True, kw_only=True):
    """Found out for one start.

    network, ipc, pid: a namespace's path to join; empty for a fresh one. home: of the user, from passwd.
    devices: nodes with the access they are mapped with. host_files: destination → source. block_io: limits
    of devices, by number. idmaps: of id-mapped binds, by destination.
    """

    user: oci.User
    home: str = "/"
    network: str = ""
    ipc: str = ""
    pid: str = ""
    sysctl: dict[str, str] = {}
    devices: tuple[tuple[oci.Device, str], ...] = ()
    host_files: dict[str, str] = {}
    shm: oci.Mount | None = None
    seccomp: oci.Seccomp | None = None
    links: tuple[str, ...] = ()
    block_io: oci.BlockIO | None = None
    idmaps: dict[str, IdMaps] = {}


def runtime_spec(
    id: str,
    config: ContainerConfig,
    host: HostConfig,
    command: Sequence[str],
    planned: Iterable[mounts.MountPlan],
    ground: Ground,
    found: Circumstances,
) -> oci.Spec:
    """config.json of the container. InvalidParameter."""
    options = security.security_options(host.security_opt)
    unconfined = host.privileged or options.systempaths_unconfined
    rules = security.device_rules(
        devices=found.devices,
        asked=host.device_cgroup_rules,
        defaults=ground.device_rules,
        privileged=host.privileged,
    )
    resources = limits.resources(host, ground.machine, rules, block_io=found.block_io)
    uts_host = host.uts_mode == "host"
    return oci.Spec(
        oci_version=oci.VERSION,
        process=_init(config, host, command, ground, found, options),
        root=oci.Root(path="rootfs", readonly=host.readonly_rootfs),
        hostname="" if uts_host else config.hostname,
        domainname="" if uts_host else config.domainname,
        mounts=mounts.container_mounts(
            planned,
            defaults=ground.mounts,
            host_files=found.host_files,
            shm=found.shm,
            privileged=host.privileged or bool(options.writable_cgroups),
            readonly_rootfs=host.readonly_rootfs,
            idmaps=found.idmaps,
        ),
        annotations=dict(host.annotations or {}),
        linux=oci.Linux(
            sysctl=_sysctl(host, found),
            resources=resources,
            cgroups_path=cgroup_path(host.cgroup_parent or ground.cgroup_parent, id),
            namespaces=_namespaces(host, found),
            devices=tuple(node for node, _ in found.devices),
            seccomp=found.seccomp,
            rootfs_propagation=_propagation(planned),
            masked_paths=()
            if unconfined
            else (ground.masked_paths if host.masked_paths is None else host.masked_paths),
            readonly_paths=()
            if unconfined
            else (ground.readonly_paths if host.readonly_paths is None else host.readonly_paths),
        ),
    )


def cgroup_path(parent: str, id: str) -> str:
    """`<parent>/<id>`, absolute."""
    return f"/{parent.strip('/')}/{id}"


def _propagation(planned: Iterable[mounts.MountPlan]) -> str:
    """What the root must be, so that the propagation of its mounts works. mount_namespaces(7)."""
    wanted = {plan.propagation for plan in planned if plan.type == "bind"}
    if wanted & {"shared", "rshared"}:
        return "rshared"
    return "rslave" if wanted & {"slave", "rslave"} else ""


def _init(
    config: ContainerConfig,
    host: HostConfig,
    command: Sequence[str],
    ground: Ground,
    found: Circumstances,
    options: security.SecurityOptions,
) -> oci.Process:
    no_new = options.no_new_privileges
    asked = [limits.rlimit(limit.name, limit.soft, limit.hard) for limit in host.ulimits or ()]
    size = host.console_size or ()
    return oci.Process(
        args=tuple(command),
        env=init_environment(config, found.links, home=found.home),
        cwd=config.working_dir or "/",
        terminal=config.tty,
        console_size=oci.ConsoleSize(height=size[0], width=size[1])
        if config.tty and len(size) == 2 and size[0] and size[1]
        else None,
        user=found.user,
        capabilities=process_capabilities(host, found.user, ground),
        rlimits=limits.rlimits(asked, ground.rlimits),
        no_new_privileges=ground.no_new_privileges if no_new is None else no_new,
        oom_score_adj=host.oom_score_adj or None,
    )


def process_capabilities(host: HostConfig, user: oci.User, ground: Ground) -> oci.Capabilities:
    """A process that is not root keeps the bounding set only; execve(2) would drop the rest anyway."""
    granted = security.capabilities(
        add=host.cap_add,
        drop=host.cap_drop,
        privileged=host.privileged,
        defaults=ground.capabilities,
        available=ground.available,
    )
    if user.uid:
        return oci.Capabilities(bounding=granted)
    return oci.Capabilities(bounding=granted, effective=granted, permitted=granted)


def init_environment(
    config: ContainerConfig, links: Sequence[str] = (), *, home: str = "/"
) -> tuple[str, ...]:
    """PATH, HOSTNAME, TERM on a terminal, links, then the container's own; HOME if nobody names it."""
    first = [PATH]
    if config.hostname:
        first.append(f"HOSTNAME={config.hostname}")
    if config.tty:
        first.append("TERM=xterm")
    return merge_environment([*first, *links], config.env or (), home=home)


def merge_environment(defaults: Iterable[str], own: Iterable[str], *, home: str) -> tuple[str, ...]:
    """`NAME=value` of both; own ones win in place, and a bare `NAME` takes a default away."""
    named: dict[str, str | None] = {entry.partition("=")[0]: entry for entry in defaults}
    for entry in own:
        name, equals, _ = entry.partition("=")
        if equals:
            named[name] = entry
        else:
            named.pop(name, None)
    if not named.get("HOME"):
        named["HOME"] = f"HOME={home or '/'}"
    return tuple(entry for entry in named.values() if entry is not None)


def _namespaces(host: HostConfig, found: Circumstances) -> tuple[oci.Namespace, ...]:
    kinds = [oci.Namespace(type="mount")]
    if host.network_mode != "host":
        kinds.append(oci.Namespace(type="network", path=found.network))
    if host.uts_mode != "host":
        kinds.append(oci.Namespace(type="uts"))
    if host.pid_mode != "host":
        kinds.append(oci.Namespace(type="pid", path=found.pid))
    if host.ipc_mode != "host":
        kinds.append(oci.Namespace(type="ipc", path=found.ipc))
    if host.cgroupns_mode == "private":
        kinds.append(oci.Namespace(type="cgroup"))
    return tuple(kinds)


def _sysctl(host: HostConfig, found: Circumstances) -> dict[str, str]:
    return {**found.sysctl, **(host.sysctls or {})}


def exec_process(
    config: ContainerConfig,
    host: HostConfig,
    *,
    command: Sequence[str],
    env: Iterable[str],
    working_dir: str,
    tty: bool,
    size: tuple[int, ...] | None,
    who: Identity,
    granted: tuple[str, ...],
    ground: Ground,
) -> oci.Process:
    """A further process, with the environment and limits of init. granted: its bounding set."""
    inherited = init_environment(config, home=who.home)
    terminal = ["TERM=xterm"] if tty else []
    own = [e for e in inherited if not tty or not e.startswith("TERM=")]
    asked = [limits.rlimit(limit.name, limit.soft, limit.hard) for limit in host.ulimits or ()]
    no_new = security.security_options(host.security_opt).no_new_privileges
    return oci.Process(
        args=tuple(command),
        env=merge_environment([*own, *terminal], env, home=who.home),
        cwd=working_dir or config.working_dir or "/",
        terminal=tty,
        console_size=oci.ConsoleSize(height=size[0], width=size[1])
        if tty and size and len(size) == 2 and all(size)
        else None,
        user=who.user,
        capabilities=oci.Capabilities(bounding=granted)
        if who.user.uid
        else oci.Capabilities(bounding=granted, effective=granted, permitted=granted),
        rlimits=limits.rlimits(asked, ground.rlimits),
        no_new_privileges=ground.no_new_privileges if no_new is None else no_new,
        oom_score_adj=host.oom_score_adj or None,
    )
