"""RUN --mount=type=cache: directories that are kept from build to build, each under the id that Dockerfiles
give it; listed, carried out and in, removed. The only writer of `build_mount`.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.units import rfc3339
from skiff.engine.builds.context import receive
from skiff.engine.builds.handing import in_threads
from skiff.engine.builds.plan import ExecMount
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.threads import finished
from skiff.engine.builds.tree import seen
from skiff.engine.storage import diff
from skiff.engine.storage.copying import copy_tree
from skiff.engine.storage.extractor import Extractor
from skiff.engine.storage.state import StateStore
from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.linux import trees

KIND = "exec.cachemount"


class MountRow(Struct, frozen=True, kw_only=True):
    """A cache. id: as Dockerfiles name it, else its target. size: bytes when it was last let go."""

    id: str
    made_ns: int
    used_ns: int
    uses: int = 0
    size: int = 0


class CacheMounts:
    """directory: where they are: <directory>/<name>, a name being made of the id."""

    def __init__(
        self, directory: str, extractor: Extractor, state: StateStore, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._directory = directory
        self._extractor = extractor
        self._table = state.table("build_mount", MountRow)
        self._now = now
        self._locks: dict[str, asyncio.Lock] = {}
        self._in_use: dict[str, int] = {}
        os.makedirs(directory, mode=0o711, exist_ok=True)
        known = dict(self._table.all())
        for name in os.listdir(directory):
            if name not in known:
                discard(f"{directory}/{name}")
        for name in known:
            if not os.path.isdir(f"{directory}/{name}"):
                self._table.delete(name)

    @asynccontextmanager
    async def held(self, mount: ExecMount, below: Sequence[str]) -> AsyncIterator[str]:
        """The directory of the cache, for one command. below: the layers that a new one begins as."""
        id = mount.id or mount.target
        name = _name(id)
        async with AsyncExitStack() as held:
            if mount.sharing == "locked":
                await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            base, number = name, 0
            while mount.sharing == "private" and self._in_use.get(name):
                number += 1
                name = f"{base}-{number}"
            self._in_use[name] = self._in_use.get(name, 0) + 1
            try:
                path = f"{self._directory}/{name}"
                row = self._row(name) or MountRow(id=id, made_ns=self._now(), used_ns=0)
                # known before it is there: the next boot deletes what no row names
                self._table.put(name, replace(row, used_ns=self._now(), uses=row.uses + 1))
                await finished(_make, path, mount, below)
                yield path
            finally:
                await self._let_go(name)

    async def _let_go(self, name: str) -> None:
        try:
            size = await finished(_size, f"{self._directory}/{name}")
            row = self._row(name)
            if row is not None:
                self._table.put(name, replace(row, size=size))
        finally:
            self._in_use[name] -= 1

    # -- what is kept

    def rows(self) -> Mapping[str, MountRow]:
        """Those that no command uses now, by name."""
        return {name: row for name, row in self._table.all() if not self._in_use.get(name)}

    def usage(self) -> list[dict[str, Any]]:
        """Engine API, BuildCache."""
        return [
            {
                "ID": name[:25],
                "Parents": None,
                "Type": KIND,
                "Description": f"cache mount {row.id}",
                "InUse": bool(self._in_use.get(name)),
                "Shared": False,
                "Size": row.size,
                "CreatedAt": rfc3339(row.made_ns),
                "LastUsedAt": rfc3339(row.used_ns),
                "UsageCount": row.uses,
            }
            for name, row in self._table.all()
        ]

    def list(self) -> "list[dict[str, Any]]":
        """Each with its id, for `skiff builder cache ls`."""
        return [
            {**shown, "Mount": row.id}
            for shown, (_, row) in zip(self.usage(), self._table.all(), strict=True)
        ]

    def drop(self, name: str) -> int:
        """Delete a cache; the bytes that came free. Conflict. Blocking."""
        size = self.spare(name)
        if self._row(name) is None:
            return 0
        gone = f"{self._directory}/{name}.gone-{secrets.token_hex(4)}"
        os.rename(f"{self._directory}/{name}", gone)
        self._table.delete(name)
        discard(gone)
        return size

    def spare(self, name: str) -> int:
        """The bytes that would come free without a cache. Conflict when it is in use."""
        row = self._row(name)
        if row is not None and self._in_use.get(name):
            raise Conflict(f"cache mount {row.id} is in use")
        return row.size if row is not None else 0

    def remove(self, id: str) -> int:
        """The cache that Dockerfiles call so. NotFound, Conflict. Blocking."""
        return self.drop(self._known(id))

    def archive(self, id: str) -> AsyncGenerator[bytes, None]:
        """Its content as a tar. NotFound."""
        return in_threads(diff.tree_layer(f"{self._directory}/{self._known(id)}"))

    async def fill(self, id: str, body: AsyncIterator[bytes]) -> None:
        """A tar becomes the cache of that id, in place of what was there. InvalidParameter, Conflict."""
        if not id:
            raise InvalidParameter("a cache mount needs an id")
        name = _name(id)
        fresh = f"{self._directory}/{name}.new-{secrets.token_hex(4)}"
        try:
            await receive(self._extractor, body, fresh)
            if self._row(name) is not None:
                await finished(self.drop, name)
            size = await finished(_size, fresh)
            now = self._now()
            self._table.put(name, MountRow(id=id, made_ns=now, used_ns=now, size=size))
            os.rename(fresh, f"{self._directory}/{name}")
        finally:
            if os.path.isdir(fresh):
                await finished(discard, fresh)

    def _known(self, id: str) -> str:
        name = _name(id)
        if self._row(name) is None:
            raise NotFound(f"no such cache mount: {id}")
        return name

    def _row(self, name: str) -> MountRow | None:
        try:
            return self._table.get(name)
        except NotFound:
            return None


def _name(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _size(path: str) -> int:
    return sum(file.st_size for file in trees.files(path))


def _make(path: str, mount: ExecMount, below: Sequence[str]) -> None:
    if os.path.isdir(path):
        return
    fresh = f"{path}.new-{secrets.token_hex(4)}"
    if below:
        with seen(below) as tree:
            source = tree.open(mount.source or "/", os.O_RDONLY | os.O_DIRECTORY)
            try:
                copy_tree(f"/proc/self/fd/{source}/.", fresh)
            finally:
                os.close(source)
    else:
        os.mkdir(fresh, 0o755)
    os.chown(fresh, mount.uid, mount.gid)
    os.chmod(fresh, 0o755 if mount.mode is None else mount.mode)
    try:
        os.rename(fresh, path)
    except OSError:  # another step was faster
        discard(fresh)
