"""What containers ask of networks: the Sandboxes protocol, and PlainSandboxes, which needs no network at all.

none          a network namespace of its own with nothing but a loopback
host          the host's
container:ID  that of another container
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from skiff.docker.container_view import NetworkSettings, PortSummary
from skiff.docker.network import EndpointSettings
from skiff.engine.containers.record import Container
from skiff.errors import Conflict, NotFound


class SandboxView(Struct, frozen=True, kw_only=True):
    """The network side of a container that is about to start.

    namespace: path of the network namespace to join; empty for a fresh one. host: use the host's.
    shared: the namespace is set up already. hosts: (address, names) lines besides localhost. resolv_conf: the
    file's text; None for the host's. env: what links add. files_of: the container whose hosts and resolv.conf
    are shared. gateway: the address that `host-gateway` means in extra hosts.
    """

    namespace: str = ""
    host: bool = False
    shared: bool = False
    files_of: str = ""
    gateway: str = ""
    hosts: tuple[tuple[str, str], ...] = ()
    env: tuple[str, ...] = ()
    resolv_conf: str | None = None


class Sandboxes(Protocol):
    def warnings(self, container: Container) -> Sequence[str]:
        """What create should tell the client. InvalidParameter, NotFound for a mode that cannot be."""
        ...

    def join(self, container: Container) -> None:
        """Once, when it has been created: its places in networks are kept for it."""
        ...

    def renamed(self, container: Container) -> None:
        """It has a new name."""
        ...

    async def republish(self, container: Container) -> None:
        """It wishes other ports than before. Unavailable when one is taken."""
        ...

    def started(self, container: Container) -> None:
        """It runs now: those that link to it learn its address."""
        ...

    def unlinked(self, text: str) -> Container:
        """The record without the link of that name, `me/alias`. NotFound."""
        ...

    def names(self, container: Container) -> tuple[str, ...]:
        """What links of others call it, `/me/alias`."""
        ...

    def environment(self, container: Container) -> tuple[str, ...]:
        """What its links add to the environment of a command, as things are now."""
        ...

    def mark(self, container: Container) -> object:
        """Equal to an earlier one as long as nothing below has changed for this container."""
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


class PlainSandboxes:
    """none, host and container:ID: what needs no network of ours. The default network is as good as none.

    pid_of: the host pid of a running container's init. NotFound, Conflict.
    """

    def __init__(self, pid_of: Callable[[str], int]) -> None:
        self._pid_of = pid_of

    def warnings(self, container: Container) -> Sequence[str]:
        mode = container.host.network_mode
        if mode not in ("none", "host", "bridge", "default") and not mode.startswith("container:"):
            raise NotFound(f"network {mode} not found")
        return ()

    def join(self, container: Container) -> None:
        """Nothing is kept."""

    def renamed(self, container: Container) -> None:
        """No name is known."""

    async def republish(self, container: Container) -> None:
        raise Conflict("this container is on no network that could publish ports")

    def started(self, container: Container) -> None:
        """Nobody links."""

    def unlinked(self, text: str) -> Container:
        raise NotFound(f"Cannot get parent / for name {text}")

    def names(self, container: Container) -> tuple[str, ...]:
        return ()

    def environment(self, container: Container) -> tuple[str, ...]:
        return ()

    def mark(self, container: Container) -> object:
        return None

    async def open(self, container: Container) -> SandboxView:
        mode = container.host.network_mode
        if mode == "host":
            return SandboxView(host=True)
        if mode.startswith("container:"):
            other = mode.partition(":")[2]
            try:
                pid = self._pid_of(other)
            except NotFound as error:
                raise NotFound(f"joining network namespace of container: {error}") from None
            except Conflict:
                raise Conflict(f"cannot join network namespace of a non running container: {other}") from None
            return SandboxView(namespace=f"/proc/{pid}/ns/net", shared=True, files_of=other)
        return SandboxView()

    async def close(self, container: Container) -> None:
        """Nothing outlives the task."""

    async def reopen(self, running: Iterable[Container]) -> None:
        """Nothing is held."""

    async def forget(self, container: Container) -> None:
        """Nothing is held."""

    def settings(self, container: Container) -> NetworkSettings:
        return NetworkSettings(networks=self.endpoints(container))

    def endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        mode = container.host.network_mode
        if mode.startswith("container:"):
            return {}
        asked = container.networking.endpoints_config or {}
        return {mode: asked.get(mode) or EndpointSettings()}

    def ports(self, container: Container) -> tuple[PortSummary, ...]:
        """What is exposed; nothing is published."""
        found = []
        for port in container.config.exposed_ports or {}:
            number, _, protocol = port.partition("/")
            if number.isdigit():
                found.append(PortSummary(private_port=int(number), type=protocol or "tcp"))
        return tuple(found)
