"""RUN as an OCI runtime spec: what its process may do and see. Pure, but for what is handed in."""

import ipaddress
from collections.abc import Sequence

from msgspec import Struct

from skiff.engine.builds.request import Limits
from skiff.engine.execution import defaults
from skiff.errors import InvalidParameter
from skiff.linux.users import Identity
from skiff.oci import runtime as oci

HOSTNAME = "buildkitsandbox"  # as Docker has it: what a RUN writes of it is the same each time
_LOCALHOST = (
    f"127.0.0.1\tlocalhost {HOSTNAME}",
    "::1\tlocalhost ip6-localhost ip6-loopback",
)


class Machine(Struct, frozen=True, kw_only=True):
    """What every RUN of this engine has. capabilities: what the engine may grant at all."""

    architecture: str
    kernel: tuple[int, int]
    capabilities: tuple[str, ...]
    cgroup_parent: str = "/skiff"
    shm_size: int = defaults.SHM_BYTES


class Run(Struct, frozen=True, kw_only=True):
    """One RUN, everything found out. network: path of a namespace, "" for an empty one, "host".

    mounts: its own, after the usual ones. host_files: destination → source.
    """

    id: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    who: Identity
    network: str = ""
    privileged: bool = False
    mounts: tuple[oci.Mount, ...] = ()
    host_files: tuple[tuple[str, str], ...] = ()
    limits: Limits = Limits()


def specification(run: Run, machine: Machine) -> oci.Spec:
    """config.json of the run."""
    granted = machine.capabilities
    if not run.privileged:
        granted = tuple(name for name in machine.capabilities if name in defaults.CAPABILITIES)
    usual = defaults.mounts(run.limits.shm_size or machine.shm_size)
    binds = tuple(
        oci.Mount(destination, "bind", source, ("rbind", "rprivate"))
        for destination, source in run.host_files
    )
    namespaces = [oci.Namespace(type=kind) for kind in ("mount", "uts", "pid", "ipc")]
    if run.network != "host":
        namespaces.append(oci.Namespace(type="network", path=run.network))
    parent = run.limits.cgroup_parent or machine.cgroup_parent
    return oci.Spec(
        oci_version=oci.VERSION,
        process=_process(run, granted),
        root=oci.Root(path="rootfs"),
        hostname=HOSTNAME,
        mounts=(*usual, *binds, *run.mounts),
        linux=oci.Linux(
            resources=_resources(run),
            cgroups_path=f"/{parent.strip('/')}/build-{run.id[:32]}",
            namespaces=tuple(namespaces),
            seccomp=None
            if run.privileged
            else defaults.default_seccomp(frozenset(granted), machine.architecture, machine.kernel),
            devices=(),
            masked_paths=() if run.privileged else defaults.MASKED_PATHS,
            readonly_paths=() if run.privileged else defaults.READONLY_PATHS,
        ),
    )


def _process(run: Run, granted: tuple[str, ...]) -> oci.Process:
    rights = oci.Capabilities(bounding=granted)
    if not run.who.uid:
        rights = oci.Capabilities(bounding=granted, effective=granted, permitted=granted)
    groups = (run.who.gid, *(gid for gid in run.who.groups if gid != run.who.gid))
    return oci.Process(
        args=run.args,
        env=environment(run),
        cwd=run.cwd,
        user=oci.User(uid=run.who.uid, gid=run.who.gid, additional_gids=groups),
        capabilities=rights,
        rlimits=tuple(
            oci.Rlimit(f"RLIMIT_{limit.name.upper()}", limit.soft, limit.hard) for limit in run.limits.ulimits
        ),
    )


def environment(run: Run) -> tuple[str, ...]:
    """PATH, the step's own over it, HOME if nobody names it."""
    named = {"PATH": defaults.PATH}
    named |= {entry.partition("=")[0]: entry for entry in run.env}
    named.setdefault("HOME", f"HOME={run.who.home or '/'}")
    return tuple(named.values())


def _resources(run: Run) -> oci.Resources:
    limits = run.limits
    memory = None
    if limits.memory or limits.memory_swap:
        swap = limits.memory_swap or (2 * limits.memory if limits.memory else 0)
        memory = oci.MemoryLimits(limit=limits.memory or None, swap=swap or None)
    cpu = None
    if any((limits.cpu_shares, limits.cpu_period, limits.cpu_quota, limits.cpuset_cpus, limits.cpuset_mems)):
        cpu = oci.CPULimits(
            shares=limits.cpu_shares or None,
            period=limits.cpu_period or None,
            quota=limits.cpu_quota or None,
            cpus=limits.cpuset_cpus,
            mems=limits.cpuset_mems,
        )
    devices = defaults.DEVICE_RULES
    if run.privileged:
        devices = (oci.DeviceRule(allow=True, access="rwm"),)
    return oci.Resources(devices=devices, memory=memory, cpu=cpu)


def hosts(extra: Sequence[str], gateway: str) -> str:
    """The text of /etc/hosts. extra: `name:address`, `host-gateway` understood. InvalidParameter."""
    lines = [*_LOCALHOST]
    for entry in extra:
        name, separator, address = entry.partition("=" if "=" in entry else ":")
        if address == "host-gateway":
            address = gateway
        try:
            ipaddress.ip_address(address.strip("[]"))
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
        if not name or not separator:
            raise InvalidParameter(f'bad format for add-host: "{entry}"')
        lines.append(f"{address.strip('[]')}\t{name}")
    return "\n".join(lines) + "\n"
