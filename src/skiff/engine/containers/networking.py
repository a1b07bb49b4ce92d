"""What containers ask of networks: the Sandboxes protocol, and PlainSandboxes, which needs no network at all.

none          a network namespace of its own with nothing but a loopback
host          the host's
container:ID  that of another container
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from skiff.docker.container_view import NetworkSettings, PortSummary
from skiff.docker.network import EndpointSettings
from skiff.engine.containers.record import Container


class SandboxView(Struct, frozen=True, kw_only=True):
    """The network side of a container that is about to start.

    namespace: path of the network namespace to join; empty for a fresh one. host: use the host's.
    shared: the namespace is set up already. hosts: (address, names) lines besides localhost. resolv_conf: the
    file's text; None for the host's. files_of: the container whose hosts and resolv.conf are shared.
    """

    namespace: str = ""
    host: bool = False
    shared: bool = False
    files_of: str = ""
    hosts: tuple[tuple[str, str], ...] = ()
    resolv_conf: str | None = None


class Sandboxes(Protocol):
    def warnings(self, container: Container) -> Sequence[str]:
        """What create should tell the client. InvalidParameter, NotFound for a mode that cannot be."""
        ...

    async def open(self, container: Container) -> SandboxView:
        """Before each start. Conflict, NotFound."""
        ...

    async def close(self, container: Container) -> None:
        """After each exit, and again is no error."""
        ...

    async def reopen(self, running: Iterable[Container]) -> None:
        """At boot: those containers run already; whatever belongs to others goes."""
        ...

    async def forget(self, container: Container) -> None:
        """The container is removed: its endpoints go."""
        ...

    def settings(self, container: Container) -> NetworkSettings:
        """NetworkSettings of inspect."""
        ...

    def endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        """The networks part of the list."""
        ...

    def ports(self, container: Container) -> tuple[PortSummary, ...]:
        """The ports column of the list."""
        ...
