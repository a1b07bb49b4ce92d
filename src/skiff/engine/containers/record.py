"""Container, a row: what was asked and what came of it. Its running side is a Task (execution/runtime.py).

Records hands them out by id, name or unique prefix, and is the only writer of their table. They are frozen,
swapped whole, and all of them are in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NewType

from msgspec import Struct

from skiff.docker.container import ContainerConfig, HostConfig
from skiff.docker.container_view import ContainerState
from skiff.docker.network import NetworkingConfig
from skiff.engine.containers.spec.mounts import MountPlan
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.oci.digest import ChainID, ImageID

ContainerID = NewType("ContainerID", str)  # 64 hex


class Container(Struct, frozen=True, kw_only=True):
    """One container, as stored.

    config, host: the wish merged with the image and the engine's defaults, as inspect shows them.
    wish: what is under way (`creating`, `starting`, `removing`, empty), so that a boot can finish it.
    anonymous: volumes made for it alone. restarts: since the last start by a person.
    """

    id: ContainerID
    name: str  # without the leading slash that the API shows
    created_ns: int  # since the epoch
    image: ImageID
    chain: ChainID | None  # what its writable snapshot stands on; the snapshot's key is the id
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    host: HostConfig
    networking: NetworkingConfig = NetworkingConfig()
    mounts: tuple[MountPlan, ...] = ()
    anonymous: tuple[str, ...] = ()
    driver: str = ""
    platform: str = "linux"
    state: ContainerState = ContainerState()
    wish: str = ""
    restarts: int = 0
    stopped_by_user: bool = False
    was_started: bool = False


class Records:
    """All containers, by id, name and prefix."""

    def __init__(self, state: StateStore) -> None:
        self._table = state.table("container", Container)
        self._by_id: dict[str, Container] = dict(self._table.all())
        self._by_name: dict[str, ContainerID] = {c.name: c.id for c in self._by_id.values()}
        self._linking = dict.fromkeys(c.id for c in self._by_id.values() if c.host.links)

    def find(self, text: str) -> Container:
        """By full id, name (a leading slash is allowed) or unique prefix. NotFound, InvalidParameter."""
        found = self._by_id.get(text)
        if found is not None:
            return found
        id = self._by_name.get(text.removeprefix("/"))
        if id is not None and id in self._by_id:
            return self._by_id[id]
        matches = [c for key, c in self._by_id.items() if key.startswith(text)] if text else []
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InvalidParameter(f"Multiple IDs found with provided prefix: {text}")
        if not text:
            raise InvalidParameter('invalid name or ID supplied: ""')
        raise NotFound(f"No such container: {text}")

    def get(self, id: str) -> Container:
        """By full id. NotFound."""
        try:
            return self._by_id[id]
        except KeyError:
            raise NotFound(f"No such container: {id}") from None

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    def __iter__(self) -> Iterator[Container]:
        """A copy: writing meanwhile is safe."""
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def linking(self) -> list[Container]:
        """Those with legacy links: few, and asked for at each start and listing."""
        return [self._by_id[id] for id in self._linking]

    def holder(self, name: str) -> ContainerID | None:
        """Whose name it is."""
        return self._by_name.get(name)

    @contextmanager
    def reserved(self, name: str, id: ContainerID) -> Iterator[None]:
        """The name is id's meanwhile. Conflict, in Docker's words, if it is another's."""
        holder = self._by_name.get(name)
        if holder is not None and holder != id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._by_name[name] = id
        try:
            yield
        finally:
            record = self._by_id.get(id)
            if record is None or record.name != name:
                self._by_name.pop(name, None)

    def put(self, record: Container) -> Container:
        """Store it, in memory and on disk. A new name was reserved."""
        self._table.put(record.id, record)
        before = self._by_id.get(record.id)
        if before is not None and before.name != record.name:
            self._by_name.pop(before.name, None)
        self._by_id[record.id] = record
        self._by_name[record.name] = record.id
        if record.host.links:
            self._linking[record.id] = None
        else:
            self._linking.pop(record.id, None)
        return record

    def delete(self, id: str) -> None:
        record = self._by_id.pop(id, None)
        if record is not None:
            self._by_name.pop(record.name, None)
            self._linking.pop(record.id, None)
            self._table.delete(id)

    def volume_users(self, name: str) -> list[ContainerID]:
        """The containers that mount the volume, running or not."""
        return [c.id for c in self._by_id.values() if any(m.name == name for m in c.mounts)]
