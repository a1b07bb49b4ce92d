"""What a client asks of a build. The door makes it of query, headers and body; nothing here acts."""

from collections.abc import Mapping

from msgspec import Struct, field

from skiff.docker.container import Ulimit
from skiff.engine.registry.auth import Credentials
from skiff.oci.platform import Platform


class Limits(Struct, frozen=True, kw_only=True):
    """Of every RUN. Bytes; 0 is no limit; cpus in list format. memory_swap: memory and swap, -1 no limit."""

    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""


class Output(Struct, frozen=True):
    """Where something goes. Engine API, ImageBuild, `outputs`."""

    type: str = field(name="Type")
    attributes: dict[str, str] = field(name="Attrs", default_factory=dict)


class CacheSource(Struct, frozen=True):
    """type image: an image here; those alone may serve as cache. registry, local: a cache that is brought.

    ref: an image's name. tree: token of a kept tree.
    """

    type: str = "image"
    ref: str = ""
    tree: str = ""


class BuildRequest(Struct, frozen=True, kw_only=True):
    """One build.

    tags: as typed. remote: a URL, or "" when the body is the context. ignore_cache: as in BuildOptions.
    secrets: by id. agents: ids of ssh agents that the client has. contexts: named ones, an image or a URL
    each. trees: tokens of kept trees by the context's name, "" the build's own. outputs: none: the image, in
    the store. allow: entitlements. check: look at the Dockerfile only. credentials: by registry domain.
    why, verify: skiff's own.
    """

    dockerfile: str = "Dockerfile"
    remote: str = ""
    tags: tuple[str, ...] = ()
    build_args: Mapping[str, str | None] = {}
    labels: Mapping[str, str] = {}
    target: str = ""
    platform: Platform | None = None
    network: str = "default"
    extra_hosts: tuple[str, ...] = ()
    ignore_cache: tuple[str, ...] | None = None
    cache_from: tuple[CacheSource, ...] = ()
    cache_to: tuple[Output, ...] = ()
    pull: bool = False
    quiet: bool = False
    remove: bool = True  # what is told of the containers of steps; skiff has none that could stay
    force_remove: bool = False  # the same, after a step that failed
    squash: bool = False
    limits: Limits = Limits()
    secrets: Mapping[str, bytes] = {}
    agents: tuple[str, ...] = ()
    credentials: Mapping[str, Credentials] = {}
    contexts: Mapping[str, str] = {}
    trees: Mapping[str, str] = {}
    outputs: tuple[Output, ...] = ()
    allow: frozenset[str] = frozenset()
    check: bool = False
    why: bool = False
    verify: bool = False
