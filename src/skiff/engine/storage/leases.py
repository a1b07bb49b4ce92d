"""Leases keep work in progress from the collector: what a pull has fetched but not yet named.

The rule: a resource is added to a lease before the resource exists. Resources are the strings the collector
sees: digests of blobs, chain IDs, snapshot keys. A lease lives in the state store, so it outlives the engine
that took it; the boot releases those (`release_all`).
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.storage.state import StateStore


class Lease(Struct, frozen=True):
    """As stored."""

    id: str
    created: datetime
    resources: tuple[str, ...] = ()


class HeldLease:
    """A lease while it is held."""

    def __init__(self, lease: Lease, put: Callable[[Lease], None]) -> None:
        self._lease = lease
        self._put = put

    @property
    def id(self) -> str:
        return self._lease.id

    def add(self, *resources: str) -> None:
        new = tuple(r for r in dict.fromkeys(resources) if r not in self._lease.resources)
        if new:
            self._lease = replace(self._lease, resources=self._lease.resources + new)
            self._put(self._lease)


class Leases:
    def __init__(self, state: StateStore) -> None:
        self._table = state.table("lease", Lease)

    @contextmanager
    def hold(self, *resources: str) -> Iterator[HeldLease]:
        """A lease until the block ends, however it ends."""
        lease = Lease(id=secrets.token_hex(16), created=datetime.now(UTC), resources=resources)
        self._table.put(lease.id, lease)
        try:
            yield HeldLease(lease, lambda changed: self._table.put(changed.id, changed))
        finally:
            self._table.delete(lease.id)

    def held(self) -> frozenset[str]:
        """Every resource under some lease."""
        return frozenset(r for _, lease in self._table.all() for r in lease.resources)

    def release_all(self) -> frozenset[str]:
        """At boot: end those of an engine that is gone; what they held may be torn by a power failure."""
        held = self.held()
        for id, _ in self._table.all():
            self._table.delete(id)
        return held
