"""The builds of an engine, put together of what it has."""

from collections.abc import Callable
from typing import NamedTuple

from skiff.engine.builds.cache import Cache
from skiff.engine.builds.cache_mounts import CacheMounts
from skiff.engine.builds.carried import Carrier
from skiff.engine.builds.confinement import Machine
from skiff.engine.builds.dockerfile.frontend import DockerfileFrontend
from skiff.engine.builds.kept import Trees
from skiff.engine.builds.layering import Layering
from skiff.engine.builds.mounting import Mounter
from skiff.engine.builds.networking import NetworkSandboxes
from skiff.engine.builds.planning import Planning
from skiff.engine.builds.pruning import Budget, Pruning
from skiff.engine.builds.running import Runner
from skiff.engine.builds.service import Builds
from skiff.engine.builds.solver import Solver
from skiff.engine.builds.squashing import Squasher
from skiff.engine.builds.work import Work
from skiff.engine.execution.runtime import Runtime
from skiff.engine.images.service import Images
from skiff.engine.networks.service import Networks
from skiff.engine.registry.client import Registries
from skiff.engine.storage.apply import Layers
from skiff.engine.storage.extractor import Extractor
from skiff.engine.storage.leases import Leases
from skiff.engine.storage.snapshots import Snapshotter
from skiff.engine.storage.state import StateStore
from skiff.oci.platform import Platform
from skiff.paths import DataPaths, RunPaths

_IDLE_SECONDS = 600  # people build again and again


class Parts(NamedTuple):
    """What an engine has that builds stand on."""

    data: DataPaths
    run: RunPaths
    state: StateStore
    snapshots: Snapshotter
    layers: Layers
    leases: Leases
    registries: Registries
    images: Images
    networks: Networks
    runtime: Runtime
    host_resolv: Callable[[], str]
    machine: Machine
    platform: Platform
    budget: Budget


def assembled(parts: Parts) -> Builds:
    """Before the first collection: the cache holds its layers by leases."""
    layering = Layering(parts.snapshots, parts.leases)
    extractor = Extractor(idle_seconds=_IDLE_SECONDS)
    runner = Runner(
        runtime=parts.runtime,
        run=parts.run,
        snapshots=parts.snapshots,
        sandboxes=NetworkSandboxes(parts.networks, parts.host_resolv),
        state=parts.state,
        machine=parts.machine,
    )
    scratch = str(parts.data.builds)
    cache = Cache(
        parts.state,
        layering,
        parts.leases,
        in_images=lambda: {layer.chain for row in parts.images.held() for layer in row.layers},
    )
    caches = CacheMounts(str(parts.data.build_caches), extractor, parts.state)
    trees = Trees(str(parts.data.build_contexts), extractor, parts.state)
    solver = Solver(
        layering=layering,
        cache=cache,
        runner=runner,
        mounter=Mounter(caches, scratch),
        work=Work(extractor, scratch),
    )
    return Builds(
        planning=Planning(DockerfileFrontend(), parts.images, parts.platform),
        carrier=Carrier(layering, parts.layers, parts.registries, parts.images, parts.platform),
        solver=solver,
        images=parts.images,
        extractor=extractor,
        squasher=Squasher(layering, extractor),
        trees=trees,
        caches=caches,
        pruning=Pruning(cache, trees, caches, parts.budget, scratch),
        scratch=scratch,
        platform=parts.platform,
    )
