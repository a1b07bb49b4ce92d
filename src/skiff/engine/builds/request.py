"""What a client asks of a build. The door makes it of query, headers and body; nothing here acts."""

from collections.abc import Mapping

from msgspec import Struct

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


class BuildRequest(Struct, frozen=True, kw_only=True):
    """One build.

    tags: as typed. remote: a URL, or "" when the body is the context. ignore_cache: as in BuildOptions.
    cache_from: images that alone may serve as cache; empty: all that is here. secrets: by id.
    contexts: named ones, an image or a URL each. trees: tokens of kept trees by the context's name, "" the
    build's own. outputs: `type=…` beside the image. credentials: by registry domain. why, verify: skiff's
    own.
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
    cache_from: tuple[str, ...] = ()
    pull: bool = False
    quiet: bool = False
    remove: bool = True
    squash: bool = False
    limits: Limits = Limits()
    secrets: Mapping[str, bytes] = {}
    credentials: Mapping[str, Credentials] = {}
    contexts: Mapping[str, str] = {}
    trees: Mapping[str, str] = {}
    output: str = ""
    why: bool = False
    verify: bool = False
