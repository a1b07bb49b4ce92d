"""The composition root: the only place that names implementations and says who is built from what."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

from skiff.docker.container import Ulimit
from skiff.docker.filters import Filters
from skiff.engine.api import serving, versions
from skiff.engine.api.absent import AbsentRoutes
from skiff.engine.api.app import App
from skiff.engine.api.branches import BranchRoutes
from skiff.engine.api.build import BuildRoutes
from skiff.engine.api.container_files import ContainerFileRoutes
from skiff.engine.api.container_io import ContainerStreamRoutes
from skiff.engine.api.containers import ContainerRoutes
from skiff.engine.api.egress import EgressRoutes
from skiff.engine.api.exec import ExecRoutes
from skiff.engine.api.images import ImageRoutes
from skiff.engine.api.networks import PRUNE_FILTERS as NETWORK_FILTERS
from skiff.engine.api.networks import NetworkRoutes
from skiff.engine.api.ports import PortRoutes
from skiff.engine.api.remote import RemoteRoutes
from skiff.engine.api.skiff import Previews, SkiffRoutes
from skiff.engine.api.system import SystemRoutes
from skiff.engine.api.volumes import VolumeRoutes
from skiff.engine.builds.assembly import Parts, assembled
from skiff.engine.builds.confinement import Machine
from skiff.engine.builds.pruning import Budget
from skiff.engine.builds.service import Builds
from skiff.engine.containers import host as machine_facts
from skiff.engine.containers import lifecycle
from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.branches import Branches
from skiff.engine.containers.commit import Commits
from skiff.engine.containers.record import Records
from skiff.engine.containers.sandboxes import NetworkSandboxes
from skiff.engine.containers.service import Containers
from skiff.engine.containers.settings import ContainerSettings
from skiff.engine.execution.native import NativeRuntime
from skiff.engine.images import service as image_service
from skiff.engine.images.host import HostImage
from skiff.engine.images.record import ImageUse
from skiff.engine.images.service import Images
from skiff.engine.networks import resolv
from skiff.engine.networks.bridge import BridgeDriver
from skiff.engine.networks.driver import NetworkDriver
from skiff.engine.networks.firewall import Firewall
from skiff.engine.networks.guard import Guard
from skiff.engine.networks.ipam import DEFAULT_POOLS, unique_local
from skiff.engine.networks.kept import KeptNetworks
from skiff.engine.networks.passage import Passage
from skiff.engine.networks.record import Records as NetworkRecords
from skiff.engine.networks.sandboxes import Sandboxes
from skiff.engine.networks.service import Networks
from skiff.engine.networks.vlan import SubLinkDriver
from skiff.engine.registry.client import Registries
from skiff.engine.registry.hosts import Hosts
from skiff.engine.registry.transport import HttpTransport
from skiff.engine.settings import Settings
from skiff.engine.storage import plain
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.content import FileContent
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.overlay import OverlaySnapshots
from skiff.engine.storage.removed import Bin
from skiff.engine.storage.state import SqliteState
from skiff.engine.system import info
from skiff.engine.system.check import Check
from skiff.engine.system.events import EventBus
from skiff.engine.system.garbage import Garbage, Source
from skiff.engine.system.info import Counts, Info
from skiff.engine.system.leftovers import Leftovers
from skiff.engine.system.trace import Traces
from skiff.engine.system.trash import Trash
from skiff.engine.system.usage import Usage
from skiff.engine.volumes import service as volume_service
from skiff.engine.volumes.branches import VolumeBranches
from skiff.engine.volumes.kept import KeptVolumes
from skiff.engine.volumes.local import LocalDriver
from skiff.engine.volumes.service import Volumes
from skiff.linux import links
from skiff.linux.netlink import NetlinkSocket
from skiff.oci import platform
from skiff.oci.digest import ImageID
from skiff.paths import DATA_ROOT, DataPaths, RunPaths


class Live:
    """The settings as they are now; SIGHUP swaps them and tells the watchers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.watchers: list[Callable[[Settings], None]] = []

    def reloaded(self) -> None:
        for watcher in self.watchers:
            watcher(self.settings)


class Engine:
    """What the daemon drives: `app` answers, `run` works in the background, `close` ends it."""

    def __init__(
        self,
        app: App,
        *,
        state: SqliteState,
        runtime: NativeRuntime,
        containers: Containers,
        images: Images,
        networks: Networks,
        transport: HttpTransport,
        trash: Trash,
        builds: Builds,
    ) -> None:
        self.app = app
        self.ready = containers.ready
        self._state = state
        self._runtime = runtime
        self._containers = containers
        self._images = images
        self._networks = networks
        self._transport = transport
        self._trash = trash
        self._builds = builds

    async def run(self) -> None:
        """Until cancelled. `ready` is set once what ran before has been taken over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runtime.run())
            group.create_task(self._containers.run())
            group.create_task(self._trash.run())
            group.create_task(self._builds.run())

    async def close(self) -> None:
        await self._runtime.close()
        await self._networks.shut_down()
        await self._transport.close()
        await asyncio.to_thread(self._containers.visitor.close)
        await asyncio.to_thread(self._images.close)
        await asyncio.to_thread(self._builds.close)
        self._state.close()


def assemble(live: Live) -> Engine:
    """Everything, from settings. Called once, within the running loop."""
    settings = live.settings
    data, run = DataPaths(settings.data_root), RunPaths(settings.exec_root)
    os.makedirs(data.tmp, mode=0o700, exist_ok=True)
    state = SqliteState(str(data.state))
    bus = EventBus()
    records = Records(state)
    host = platform.of_machine(os.uname().machine)

    leases = Leases(state)
    leases.release_all()
    snapshots = plain.choose(str(data.snapshots), state, _storage_driver(settings))
    snapshots.reconcile()
    content = FileContent(str(data.content))
    layers = Layers(snapshots, noting=settings.compressed_layers == "drop" and snapshots.stacks_late)
    layers.recover()
    bin = Bin(state)
    transport = HttpTransport(proxies=info.proxies(settings))
    registries = Registries(transport, _hosts(settings), attempts=settings.max_download_attempts)

    def renew(now: Settings) -> None:
        registries.hosts, registries.attempts = _hosts(now), now.max_download_attempts

    live.watchers.append(renew)
    images = Images(
        state=state,
        content=content,
        snapshots=snapshots,
        layers=layers,
        leases=leases,
        registries=registries,
        host=HostImage(snapshots, state, host, own=(settings.data_root, settings.exec_root)),
        platform=host,
        in_use=partial(_uses, records),
        publish=partial(bus.tell, "image"),
        bin=bin,
        downloads=settings.max_concurrent_downloads,
        uploads=settings.max_concurrent_uploads,
    )
    local = LocalDriver(data)
    volumes = Volumes(
        state,
        [local],
        bin=bin,
        users=records.volume_users,
        publish=partial(bus.tell, "volume"),
    )
    networks = _networks(settings, state, bus, bin)
    runtime = NativeRuntime(run, cgroup_parent(settings))
    containers = Containers(
        state=state,
        snapshots=snapshots,
        images=images,
        volumes=volumes,
        sandboxes=NetworkSandboxes(networks, records, data, run, lambda id: containers.pid_of(id)),
        runtime=runtime,
        data=data,
        run=run,
        publish=bus.publish,
        settings=container_settings(settings),
        records=records,
        ancestors=images.family,
        bin=bin,
    )
    volume_branches = VolumeBranches(
        volumes, still=lambda name: branches.still(name), running=lambda name: branches.running(name)
    )
    volume_branches.recover()
    branches = Branches(
        state=state,
        lifecycle=containers.lifecycle,
        snapshots=snapshots,
        cloner=volume_branches,
        leases=leases,
        announce=containers.announce,
        freed=lambda: trash.collect_soon(),
    )
    containers.kept.forgotten = branches.forget
    builds = _builds(settings, state, snapshots, layers, leases, registries, images, networks, runtime, host)
    # Whatever commits snapshots or ingests blobs that outlive a request names them here.
    garbage = Garbage(
        content,
        snapshots,
        leases,
        layers,
        content.abandoned,
        (Source(images.roots, images.edges), Source(branches.roots)),
    )
    trash = Trash(
        bin,
        (
            containers.kept,
            KeptVolumes(bin, volumes, {local.name: local}),
            images.kept,
            KeptNetworks(bin, networks),
        ),
        root=settings.data_root,
        grace=timedelta(microseconds=settings.trash.grace_ns / 1000),
        share=settings.trash.share,
        collect=garbage.collect,
    )
    trash.settle()
    leftovers = Leftovers(
        records=records,
        bin=bin,
        content=content,
        snapshots=snapshots,
        volumes=volumes,
        images=images.rows,
        data=data,
        discard=containers.trash.discard,
    )

    engine_id = info.engine_id(data)
    about = Info(
        engine_id=engine_id,
        host=info.host(),
        settings=lambda: live.settings,
        driver=snapshots.driver,
        driver_status=_driver_status(settings.data_root),
        api_versions=(versions.API_VERSION, versions.MIN_API_VERSION),
        counts=partial(_counts, records, images, bus),
    )
    usage = Usage(
        layers=images.layers_size,
        images=partial(images.list, all=True, shared_size=True),
        containers=partial(containers.views.list, Filters(), all=True, size=True),
        volumes=volumes.usage,
        builds=builds.pruning.usage,
        trash=trash.usage,
    )
    commits = Commits(
        records=records,
        live=containers.live,
        snapshots=snapshots,
        deriver=images.deriver,
        namer=images,
        announce=Announcer(bus.publish),
        tmp=str(data.tmp),
    )
    previews = _previews(containers, images, volumes, networks)
    traces = Traces()
    containers.supervisor.traced = traces.ending
    app = App(
        (
            SystemRoutes(about, bus, usage, registries.login),
            ContainerRoutes(containers),
            ContainerStreamRoutes(containers),
            ContainerFileRoutes(containers.files, commits),
            ExecRoutes(containers),
            ImageRoutes(images, host),
            *serving.rooms(images.hosting),
            RemoteRoutes(images.remote),
            BuildRoutes(builds, host),
            VolumeRoutes(volumes),
            NetworkRoutes(networks, records),
            PortRoutes(containers.ports),
            EgressRoutes(networks, records),
            BranchRoutes(branches, volume_branches),
            SkiffRoutes(trash, Check(garbage, leftovers.examinations()), previews, traces),
            AbsentRoutes(),
        ),
        traces.request,
    )
    return Engine(
        app,
        state=state,
        runtime=runtime,
        containers=containers,
        images=images,
        networks=networks,
        transport=transport,
        trash=trash,
        builds=builds,
    )


def _builds(
    settings: Settings,
    state: SqliteState,
    snapshots: OverlaySnapshots | plain.PlainSnapshots,
    layers: Layers,
    leases: Leases,
    registries: Registries,
    images: Images,
    networks: Networks,
    runtime: NativeRuntime,
    host: platform.Platform,
) -> Builds:
    facts = machine_facts.facts()
    return assembled(
        Parts(
            data=DataPaths(settings.data_root),
            run=RunPaths(settings.exec_root),
            state=state,
            snapshots=snapshots,
            layers=layers,
            leases=leases,
            registries=registries,
            images=images,
            networks=networks,
            runtime=runtime,
            host_resolv=partial(host_resolv, settings),
            machine=Machine(
                architecture=facts.architecture,
                kernel=facts.kernel,
                capabilities=machine_facts.available_capabilities(),
                cgroup_parent=cgroup_parent(settings),
                shm_size=settings.default_shm_size,
            ),
            platform=host,
            budget=Budget(settings.builder.gc.is_kept, settings.builder.gc.keep_bytes),
        )
    )


def _networks(settings: Settings, state: SqliteState, bus: EventBus, bin: Bin) -> Networks:
    """One bridge, one table of rules and one pool of IPv6 subnets for each engine of a machine."""
    mark = "" if settings.data_root == str(DATA_ROOT) else sha256(settings.data_root.encode()).hexdigest()[:8]
    records = NetworkRecords(state)
    routes = NetlinkSocket()
    drivers: dict[str, NetworkDriver] = {
        "bridge": BridgeDriver(),
        "macvlan": SubLinkDriver("macvlan"),
        "ipvlan": SubLinkDriver("ipvlan"),
    }
    name = f"skiff-{mark}" if mark else "skiff"
    through = Passage(f"{name.upper()}-FORWARD") if settings.publish_policy == "docker" else None
    firewall, guard = Firewall(name, through, linger=2), Guard(records, state, f"{name}-egress", linger=2)
    sandboxes = Sandboxes(records, drivers, firewall, guard, partial(host_resolv, settings))
    networks = Networks(
        records,
        sandboxes,
        drivers,
        pools=(*DEFAULT_POOLS, unique_local(mark or "skiff")),
        routes=lambda: links.destinations(routes),
        publish=bus.publish,
        now=time.time_ns,
        default_bridge=settings.bridge or (f"skiff{mark}" if mark else "skiff0"),
        bip=settings.bip,
        mtu=settings.mtu,
        bin=bin,
    )
    networks.restore()
    return networks


def host_resolv(settings: Settings) -> str:
    """The host's resolv.conf, with what this engine was told instead."""
    try:
        text = Path("/etc/resolv.conf").read_text()
    except FileNotFoundError:
        text = ""
    told = (settings.dns, settings.dns_search, settings.dns_opts)
    return resolv.rendered(resolv.overridden(resolv.parse(text), *told)) if any(told) else text


def _previews(containers: Containers, images: Images, volumes: Volumes, networks: Networks) -> Previews:
    """What a prune of each noun would take."""

    async def of_networks(filters: Filters) -> dict[str, Sequence[str]]:
        return {"NetworksDeleted": networks.prune(filters, dry_run=True)}

    return {
        "containers": (lifecycle.PRUNE_FILTERS, partial(containers.lifecycle.prune, dry_run=True)),
        "images": (image_service.PRUNE_FILTERS, partial(images.prune, dry_run=True)),
        "networks": (NETWORK_FILTERS, of_networks),
        "volumes": (volume_service.PRUNE_FILTERS, partial(volumes.prune, dry_run=True)),
    }


def cgroup_parent(settings: Settings) -> str:
    """The group that holds every container's: absolute, `/skiff` unless told otherwise."""
    return "/" + (settings.cgroup_parent.strip("/") or "skiff")


def container_settings(settings: Settings) -> ContainerSettings:
    """What of the settings concerns containers."""
    return ContainerSettings(
        cgroup_parent=cgroup_parent(settings),
        runtimes={
            "skiff": (),
            # Clients written for Docker ask for its runtime by name and mean the usual one.
            "runc": (),
            "io.containerd.runc.v2": (),
            **({"crun": ("crun",)} if shutil.which("crun") else {}),
            **{name: (one.path, *one.arguments) for name, one in settings.runtimes.items()},
        },
        default_runtime=settings.default_runtime,
        log_driver=settings.log_driver,
        log_options=settings.log_opts,
        ulimits=tuple(
            Ulimit(name=limit.name, hard=limit.hard, soft=limit.soft)
            for limit in settings.default_ulimits.values()
        ),
        init=settings.init,
        no_new_privileges=settings.no_new_privileges,
        shm_size=settings.default_shm_size,
    )


def _hosts(settings: Settings) -> Hosts:
    insecure, own = settings.insecure_registries, settings.registry_mirrors
    return Hosts(insecure=insecure, mirrors=own, mirrors_of=settings.mirrors)


def _uses(records: Records, image: ImageID) -> Sequence[ImageUse]:
    return [
        ImageUse(record.id, record.state.running, record.config.image)
        for record in records
        if record.image == image
    ]


def _counts(records: Records, images: Images, bus: EventBus) -> Counts:
    states = [record.state for record in records]
    paused = sum(state.paused for state in states)
    running = sum(state.running and not state.paused for state in states)
    return Counts(
        running=running,
        paused=paused,
        stopped=len(states) - running - paused,
        images=images.count(),
        listeners=bus.listeners,
    )


def _storage_driver(settings: Settings) -> str:
    return {"": "auto", "overlay": "overlay2"}.get(settings.storage_driver, settings.storage_driver)


def _driver_status(root: str) -> list[list[str]]:
    return [["Backing Filesystem", info.filesystem(root)], ["Supports d_type", "true"]]
