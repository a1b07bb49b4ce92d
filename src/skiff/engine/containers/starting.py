"""From a stored container to a task that is ready to start: sandbox, files, spec, bundle.

What is the same at every start (the system call filter) is kept.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.container import HostConfig
from skiff.engine.containers import devices
from skiff.engine.containers.identities import Identities
from skiff.engine.containers.live import Live
from skiff.engine.containers.networking import Sandboxes, SandboxView
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.containers.spec import host_files, limits, logging, security, translate
from skiff.engine.containers.spec.idmaps import IdMaps, idmaps
from skiff.engine.containers.spec.mounts import MountPlan
from skiff.engine.containers.volumes import Volumes
from skiff.engine.execution import bundle, defaults
from skiff.engine.execution.runtime import Runtime, Stdio, Task
from skiff.engine.networks import resolv
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import Conflict, InvalidParameter
from skiff.linux import safepath
from skiff.oci import runtime as oci
from skiff.paths import DataPaths, RunPaths

CACHED = 256
UNPRIVILEGED_SYSCTL = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}


class HostFacts(Struct, frozen=True):
    """kernel: (6, 1). architecture: as uname has it."""

    architecture: str
    kernel: tuple[int, int]
    apparmor: bool = False
    selinux: bool = False


class Starting:
    def __init__(
        self,
        *,
        records: Records,
        live: Live,
        runtime: Runtime,
        snapshots: Snapshotter,
        sandboxes: Sandboxes,
        volumes: Volumes,
        data: DataPaths,
        run: RunPaths,
        settings: ContainerSettings,
        ground: translate.Ground,
        facts: HostFacts,
    ) -> None:
        self.records = records
        self.live = live
        self.runtime = runtime
        self.snapshots = snapshots
        self.sandboxes = sandboxes
        self.volumes = volumes
        self.data = data
        self.run = run
        self.settings = settings
        self.ground = ground
        self.facts = facts
        self.identities = Identities(snapshots)
        self._seccomp = lru_cache(CACHED)(self._make_seccomp)

    async def prepare(self, container: Container) -> Task:
        """A task that waits for start. Whatever was opened is closed again if it fails.

        InvalidParameter, Conflict, NotFound, CannotRun, RuntimeFailure.
        """
        try:
            view = await self.sandboxes.open(container)
            with ExitStack() as held:
                plans = [await self._opened(plan, container, held) for plan in container.mounts]
                spec = self.spec(replace(container, mounts=tuple(plans)), view)
                host = container.host
                return await self.runtime.create(
                    bundle.write(self.run, container.id, spec),
                    self.snapshots.mounts(SnapshotKey(container.id), volatile=host.auto_remove),
                    self._stdio(container),
                    runtime=self.settings.runtimes[host.runtime],
                    init=self.settings.init if not isinstance(host.init, bool) else host.init,
                )
        except BaseException:
            await self.close(container)
            bundle.remove(self.run, container.id)
            raise

    async def _opened(self, plan: MountPlan, container: Container, held: ExitStack) -> MountPlan:
        """The mount with its volume ready. InvalidParameter.

        A part of a volume is named by a descriptor of ours, held until it is mounted: others who have the
        volume may put a link in its place at any moment.
        """
        if plan.type != "volume":
            return plan
        directory = await self.volumes.open(plan.name, container.id)
        if not plan.subpath:
            return plan
        try:
            root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, root)
            part = safepath.open_in_root(root, plan.subpath)
            held.callback(os.close, part)
        except OSError as error:
            where = f"{directory}/{plan.subpath}"
            why = (error.strerror or str(error)).lower()
            raise InvalidParameter(f"cannot access path {where}: lstat {where}: {why}") from error
        return replace(plan, source=f"/proc/{os.getpid()}/fd/{part}")

    async def close(self, container: Container) -> None:
        """After the task has gone."""
        await self.sandboxes.close(container)
        for plan in container.mounts:
            if plan.type == "volume":
                await self.volumes.close(plan.name, container.id)

    def spec(self, container: Container, view: SandboxView) -> oci.Spec:
        host = container.host
        options = security.security_options(host.security_opt)
        security.check_modules(options, apparmor=self.facts.apparmor, selinux=self.facts.selinux)
        for plan in container.mounts:
            if plan.type == "bind" and plan.made and not os.path.lexists(plan.source):
                os.makedirs(plan.source, mode=0o755)
        who = self.identities.of(container, container.config.user)
        nodes = tuple(devices.mapped(host.devices or ()))
        if host.privileged:
            named = {node.path for node, _ in nodes}
            nodes = (*(pair for pair in devices.every() if pair[0].path not in named), *nodes)
        found = translate.Circumstances(
            user=who.user,
            home=who.home,
            network=view.namespace,
            ipc=self._namespace(host.ipc_mode, "ipc"),
            pid=self._namespace(host.pid_mode, "pid"),
            sysctl=UNPRIVILEGED_SYSCTL if not view.host and not view.shared else {},
            devices=nodes,
            host_files=self._host_files(container, view),
            shm=self._shm(container),
            seccomp=self.seccomp(container),
            block_io=devices.block_io(host),
            links=view.env,
            idmaps=_idmaps(container.mounts, who.user),
        )
        command = (container.path, *container.args)
        return translate.runtime_spec(
            container.id, container.config, host, command, container.mounts, self.ground, found
        )

    def seccomp(self, container: Container) -> oci.Seccomp | None:
        host = container.host
        profile = security.security_options(host.security_opt).seccomp or self.settings.seccomp_profile
        if profile == "unconfined" or (host.privileged and not profile):
            return None
        granted = security.capabilities(
            add=host.cap_add,
            drop=host.cap_drop,
            privileged=host.privileged,
            defaults=self.ground.capabilities,
            available=self.ground.available,
        )
        return self._seccomp(frozenset(granted), "" if profile == "builtin" else profile)

    def _make_seccomp(self, capabilities: frozenset[str], profile: str) -> oci.Seccomp:
        if not profile:
            return defaults.default_seccomp(capabilities, self.facts.architecture, self.facts.kernel)
        return defaults.custom_seccomp(profile, capabilities, self.facts.architecture, self.facts.kernel)

    def _namespace(self, mode: str, kind: str) -> str:
        """The path of another container's namespace. Conflict if that one does not run."""
        if not mode.startswith("container:"):
            return ""
        other = self.records.find(mode.partition(":")[2])
        if kind == "ipc" and other.host.ipc_mode not in ("shareable", "host"):
            raise InvalidParameter(
                f"can't join IPC of container {other.id}: non-shareable IPC (hint: use IpcMode:shareable "
                "for the donor container)"
            )
        task = self.live.tasks.get(other.id)
        if task is None or not other.state.running:
            raise Conflict(f"cannot join {kind.upper()} namespace of a non running container: {other.id}")
        return f"/proc/{task.pid}/ns/{kind}"

    def _shm(self, container: Container) -> oci.Mount | None:
        host = container.host
        kind, _, other = host.ipc_mode.partition(":")
        if kind == "none":
            return None
        if kind == "host":
            return oci.Mount("/dev/shm", "bind", "/dev/shm", ("rbind", "rprivate"))
        if kind == "container":
            owner = self.records.find(other)
            if owner.host.ipc_mode == "host":
                return self._shm(owner)
            if self.settings.runtimes[host.runtime]:
                raise InvalidParameter(
                    f"IPC mode container:{other}: the runtime {host.runtime} cannot share /dev/shm"
                )
            # The tmpfs is in no mount namespace but its owner's.
            root = f"/proc/{self.live.task(owner.id).pid}/root"
            return oci.Mount("/dev/shm", "bind", f"{root}/dev/shm", ("bind", "rprivate"))
        options = ("nosuid", "noexec", "nodev", "mode=1777", f"size={host.shm_size}")
        return oci.Mount("/dev/shm", "tmpfs", "shm", options)

    def _host_files(self, container: Container, view: SandboxView) -> dict[str, str]:
        """hosts, hostname and resolv.conf, written anew for this start."""
        directory = str(self.data.container(container.id))
        os.makedirs(directory, mode=0o710, exist_ok=True)
        if view.files_of:
            directory = str(self.data.container(view.files_of))
        else:
            self._write_host_files(container, view, directory)
        names = ("resolv.conf", "hostname", "hosts")
        return {f"/etc/{name}": f"{directory}/{name}" for name in names}

    def _write_host_files(self, container: Container, view: SandboxView, directory: str) -> None:
        host, config = container.host, container.config
        texts = {
            "hostname": config.hostname + "\n",
            "hosts": _host_text("/etc/hosts")
            if view.host and not host.extra_hosts
            else host_files.hosts(view.hosts, host.extra_hosts or (), view.gateway),
            "resolv.conf": view.resolv_conf if view.resolv_conf is not None else _resolv_conf(host),
        }
        for name, text in texts.items():
            # written in place: a running neighbour may have this very file mounted
            fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            with open(fd, "wb") as file:
                file.write(text.encode())

    def _stdio(self, container: Container) -> Stdio:
        config = container.config
        size = container.host.console_size or ()
        return Stdio(
            terminal=config.tty,
            stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            size=oci.ConsoleSize(*size) if len(size) == 2 and all(size) else None,
            log=logging.config(container, str(self.data.log(container.id))),
        )


def _resolv_conf(host: HostConfig) -> str:
    """The host's own text, or what it says with the container's wishes in its place."""
    text = _host_text("/etc/resolv.conf")
    if not (host.dns or host.dns_search or host.dns_options):
        return text
    asked = (host.dns or (), host.dns_search or (), host.dns_options or ())
    return resolv.rendered(resolv.overridden(resolv.parse(text), *asked))


def _host_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def machine_ground(
    settings: ContainerSettings, machine: limits.Machine, available: tuple[str, ...]
) -> translate.Ground:
    """What all containers of this engine get."""
    return translate.Ground(
        machine=machine,
        capabilities=defaults.CAPABILITIES,
        available=available,
        mounts=defaults.mounts(),
        device_rules=defaults.DEVICE_RULES,
        masked_paths=defaults.MASKED_PATHS,
        readonly_paths=defaults.READONLY_PATHS,
        rlimits=tuple(limits.rlimit(u.name, u.soft, u.hard) for u in settings.ulimits) or defaults.RLIMITS,
        no_new_privileges=settings.no_new_privileges,
        cgroup_parent=settings.cgroup_parent,
    )


def _idmaps(plans: Iterable[MountPlan], user: oci.User) -> dict[str, IdMaps]:
    """Of the id-mapped binds, by destination, as their sources are owned now."""
    found = {}
    for plan in plans:
        if plan.idmap:
            status = os.stat(plan.source)
            found[plan.destination] = idmaps((status.st_uid, status.st_gid), (user.uid, user.gid))
    return found
