"""The network of a RUN: a sandbox of its own for as long as it lasts."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from msgspec import Struct

from skiff.docker.network import EndpointSettings
from skiff.engine.networks.bridge import gateways
from skiff.engine.networks.record import Owner
from skiff.engine.networks.sandbox import Namespace
from skiff.engine.networks.service import Networks


class View(Struct, frozen=True):
    """What a process in it must know. namespace: a path, "host", or "" for an empty one.

    resolv_conf: its text.
    """

    namespace: str = ""
    gateway: str = ""
    resolv_conf: str = ""


class Sandboxes(Protocol):
    """Where RUN gets its network."""

    def open(self, id: str, mode: str) -> AbstractAsyncContextManager[View]: ...

    def forget(self, id: str) -> None:
        """At boot: what a crash left of it."""
        ...


class NetworkSandboxes:
    """Sandboxes on the networks of this engine. host_resolv: reads the host's resolv.conf."""

    def __init__(self, networks: Networks, host_resolv: Callable[[], str]) -> None:
        self._networks = networks
        self._host_resolv = host_resolv

    @asynccontextmanager
    async def open(self, id: str, mode: str) -> AsyncIterator[View]:
        """mode: default, bridge, none, host, or the name or id of a network. NotFound."""
        if mode == "host":
            yield View("host", resolv_conf=self._host_resolv())
            return
        if mode == "none":
            namespace = Namespace.new()  # its loopback is up
            try:
                yield View(namespace.path, resolv_conf=self._host_resolv())
            finally:
                namespace.close()
            return
        name = "bridge" if mode in ("default", "") else mode
        owner = Owner(id=id, name="", hostname=id[:12], settings={name: EndpointSettings()})
        sandboxes = self._networks.sandboxes
        try:
            self._networks.join(owner)
            sandbox = await sandboxes.open(owner)
            gateway = str(gateways(self._networks.find("bridge"))[0].ip)
            yield View(sandbox.namespace.path, gateway, sandboxes.resolv_conf(owner))
        finally:
            await sandboxes.close(id)
            self._networks.forget(id)

    def forget(self, id: str) -> None:
        self._networks.forget(id)
