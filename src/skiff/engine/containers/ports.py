"""Published ports of a container, changed while it runs: what Docker lacks."""

from collections.abc import Callable

from msgspec.structs import replace

from skiff.docker.container import HostConfig
from skiff.docker.network import PortBinding, PortMap
from skiff.engine.containers.live import Live
from skiff.engine.containers.networking import Sandboxes
from skiff.engine.containers.record import Container, Records
from skiff.errors import Conflict, NotFound

Change = Callable[[HostConfig], PortMap]


class Ports:
    def __init__(self, records: Records, live: Live, sandboxes: Sandboxes) -> None:
        self._records = records
        self._live = live
        self._sandboxes = sandboxes

    async def add(self, text: str, wanted: PortMap) -> None:
        """Conflict when the container publishes one of them already; Unavailable when it is taken."""
        await self._change(text, lambda host: added(host.port_bindings or {}, wanted))

    async def remove(self, text: str, unwanted: PortMap) -> None:
        """A binding without a host port takes all bindings of its port. NotFound."""
        await self._change(text, lambda host: removed(host.port_bindings or {}, unwanted))

    async def _change(self, text: str, change: Change) -> None:
        container = self._records.find(text)
        async with self._live.locks[container.id]:
            container = self._records.get(container.id)
            changed = _with_ports(container, change(container.host))
            await self._sandboxes.republish(changed)
            self._records.put(changed)


def _with_ports(container: Container, ports: PortMap) -> Container:
    host: HostConfig = replace(container.host, port_bindings=ports)
    return replace(container, host=host)


def added(have: PortMap, wanted: PortMap) -> PortMap:
    """Pure."""
    result = dict(have)
    for key, bindings in wanted.items():
        old = result.get(key) or ()
        for binding in bindings or (PortBinding(),):
            if binding in old:
                raise Conflict(
                    f"port {key} is published at {binding.host_port or 'a port of its own'} already"
                )
            old = (*old, binding)
        result[key] = old
    return result


def removed(have: PortMap, unwanted: PortMap) -> PortMap:
    """Pure."""
    result = dict(have)
    for key, bindings in unwanted.items():
        old = result.get(key)
        if not old:
            raise NotFound(f"port {key} is not published")
        kept = tuple(b for b in old if not any(_covers(u, b) for u in bindings or (PortBinding(),)))
        if len(kept) == len(old):
            raise NotFound(f"port {key} is not published there")
        if kept:
            result[key] = kept
        else:
            del result[key]
    return result


def _covers(unwanted: PortBinding, binding: PortBinding) -> bool:
    return unwanted.host_port in ("", binding.host_port) and unwanted.host_ip in ("", binding.host_ip)
