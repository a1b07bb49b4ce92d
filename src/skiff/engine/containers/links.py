"""Legacy links between containers on the default bridge: found by name, followed when the target restarts."""

import os
import re
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from skiff.engine.containers.record import Container, Records
from skiff.engine.networks import links
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.paths import DataPaths


class Links:
    """address: of a container on the default bridge, empty when it has none."""

    def __init__(self, records: Records, data: DataPaths, address: Callable[[str], str]) -> None:
        self._records = records
        self._data = data
        self._address = address

    def check(self, container: Container) -> None:
        """At create. InvalidParameter in Docker's words."""
        for text in container.host.links or ():
            name, _ = links.parse(text)
            try:
                target = self._records.find(name)
            except NotFound as error:
                raise InvalidParameter(f"could not get container for {name}: {error}") from None
            if target.host.network_mode == "host":
                raise InvalidParameter(
                    "conflicting options: host type networking can't be used with links. "
                    "This would result in undefined behavior"
                )

    def of(self, container: Container) -> Iterator[tuple[str, links.Target]]:
        """(alias, target) at the start. Conflict when a target does not run."""
        for text in container.host.links or ():
            name, alias = links.parse(text)
            target = self._records.find(name)
            if not target.state.running:
                raise Conflict(
                    f"Cannot link to a non running container: /{target.name} AS /{container.name}/{alias}"
                )
            yield alias, self._target(target)

    def _target(self, target: Container) -> links.Target:
        return links.Target(
            id=target.id,
            name=target.name,
            hostname=target.config.hostname,
            address=self._address(target.id),
            exposed=tuple(target.config.exposed_ports or {}),
            env=target.config.env or (),
        )

    def names_of(self, container: Container) -> tuple[str, ...]:
        """The names that others' links give it: `/me/alias`."""
        return tuple(
            f"/{other.name}/{alias}"
            for other in self._records.linking()
            for name, alias in map(links.parse, other.host.links or ())
            if name in (container.name, container.id)
        )

    def follow(self, target: Container) -> None:
        """The target has a new address: mend the hosts files of those that run and link to it."""
        for other in self._records.linking():
            if not other.state.running or other.id == target.id:
                continue
            for name, alias in map(links.parse, other.host.links or ()):
                if name in (target.name, target.id, target.id[:12]):
                    address, names = links.hosts_entry(alias, self._target(target))
                    self._mend(other.id, address, names)

    def _mend(self, id: str, address: str, names: str) -> None:
        """Written in place: the container has this very file mounted."""
        path = str(self._data.container(id) / "hosts")
        with open(path, "r+") as file:
            text = file.read()
            line = re.compile(rf"^\S+\t{re.escape(names)}$", re.MULTILINE)
            mended = line.sub(f"{address}\t{names}", text)
            file.seek(0)
            file.write(mended)
            file.truncate()
            os.fsync(file.fileno())

    def remove(self, text: str) -> Container:
        """The link `/me/alias` goes; the record without it, to be stored by its owner. NotFound."""
        me, _, alias = text.strip("/").partition("/")
        container = self._records.find(me)
        kept = tuple(link for link in container.host.links or () if links.parse(link)[1] != alias)
        if len(kept) == len(container.host.links or ()):
            raise NotFound(f"Cannot get parent / for name {text}")
        return replace(container, host=replace(container.host, links=kept or None))
