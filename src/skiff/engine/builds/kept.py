"""Contexts that were sent before, kept so that the next build sends only what has changed.

    client ── manifest ──► offer ──► token, and which files are missing
           ── tar of those, of directories and links ──► fill: the rest are links into the tree before
           ── or its directory itself ──► attach: we take them out of it
           ── build, naming the token ──► use

A tree is never changed once it is filled: builds share it. Of each place (`key`: a directory on some client's
machine) the last tree is kept until `prune`, which spares those in use.
"""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from socket import socket
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skiff.docker.units import rfc3339
from skiff.engine.builds.context import Context, receive
from skiff.engine.builds.gathering import gather
from skiff.engine.builds.manifest import Record, read_manifest
from skiff.engine.builds.scratch import discard
from skiff.engine.builds.threads import finished
from skiff.engine.storage.extractor import Extractor
from skiff.engine.storage.state import StateStore
from skiff.engine.storage.uploads import Body
from skiff.errors import InvalidParameter, NotFound
from skiff.linux import safepath

KIND = "source.local"
LARGEST_MANIFEST = 64 << 20  # bytes: a context of more than half a million files
_MOST_PENDING = 32
_MOST_SUMS = 8
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeRow(Struct, frozen=True, kw_only=True):
    """A filled tree. newest_ns: the latest mtime in it. Instants in ns since the epoch."""

    key: str
    size: int
    newest_ns: int
    made_ns: int
    used_ns: int
    uses: int = 1


class Pending(Struct, frozen=True):
    key: str
    manifest: bytes
    records: tuple[Record, ...]
    missing: tuple[int, ...]  # the records whose files are to come
    base: str  # token of the tree that the rest is taken from


class Trees:
    """directory: where they are kept. The only writer of `build_tree`."""

    def __init__(
        self, directory: str, extractor: Extractor, state: StateStore, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._directory = directory
        self._extractor = extractor
        self._table = state.table("build_tree", TreeRow)
        self._rows = dict(self._table.all())
        self._now = now
        self._pending: OrderedDict[str, Pending] = OrderedDict()
        self._sums: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._held: dict[str, int] = {}
        self._dropped: set[str] = set()  # forgotten, but still in use
        os.makedirs(directory, mode=0o711, exist_ok=True)
        for name in os.listdir(directory):
            if name not in self._rows:
                discard(f"{directory}/{name}")
        for token in [token for token in self._rows if not os.path.isdir(f"{directory}/{token}")]:
            self._table.delete(token)
            del self._rows[token]

    def offer(self, key: str, manifest: bytes) -> tuple[str, list[int] | None]:
        """A token, and which records' files are to be sent; None when the tree is here. InvalidParameter."""
        token = hashlib.sha256(b"%s\0%s" % (key.encode(), manifest)).hexdigest()[:32]
        if token in self._rows:
            return token, None
        self._extractor.start()  # it will be ready by the time that it is needed
        records = read_manifest(manifest)
        base = max(
            ((row.used_ns, one) for one, row in self._rows.items() if row.key == key), default=(0, "")
        )[1]
        known: set[bytes] = set()
        if base:
            with suppress(OSError), open(f"{self._directory}/{base}/manifest", "rb") as file:
                known = {record.text for record in read_manifest(file.read())}
        missing = [n for n, one in enumerate(records) if one.kind == "f" and one.text not in known]
        self._pending[token] = Pending(key, manifest, records, tuple(missing), base)
        while len(self._pending) > _MOST_PENDING:
            self._pending.popitem(last=False)
        return token, missing

    async def fill(self, token: str, body: Body) -> None:
        """What was missing, as a tar with every directory and link. NotFound: offer anew."""

        async def received(_: Pending, place: str) -> Mapping[str, str]:
            return (await receive(self._extractor, body, place)).sums

        await self._filled(token, received)

    def expects(self, token: str) -> bool:
        """Whether it was offered, and is not here yet."""
        return token in self._pending and token not in self._rows

    async def attach(self, token: str, client: socket) -> None:
        """What was missing, out of the client's own directory (builds/gathering.py). It ends when he leaves.

        NotFound: offer anew. InvalidParameter, OSError: what cannot be taken so may still be sent to `fill`.
        """

        async def gathered(pending: Pending, place: str) -> Mapping[str, str]:
            wanted = set(pending.missing)
            records = [
                one for number, one in enumerate(pending.records) if one.kind != "f" or number in wanted
            ]
            return await gather(self._extractor, records, client, place)

        pending = self._pending.get(token)
        try:
            await self._filled(token, gathered)
        except (InvalidParameter, OSError):
            if pending is not None:
                self._pending[token] = pending
            raise

    async def _filled(
        self, token: str, bring: Callable[[Pending, str], Awaitable[Mapping[str, str]]]
    ) -> None:
        """bring: makes the directory with what was missing; the sums of its files by path."""
        pending = self._pending.pop(token, None)
        if token in self._rows:
            return
        if pending is None or (pending.base and pending.base not in self._rows):
            raise NotFound(f"no such build context: {token}")
        fresh = f"{self._directory}/{token}.new-{os.urandom(4).hex()}"
        os.mkdir(fresh, 0o711)
        try:
            with self._holding(pending.base):
                sums = await bring(pending, f"{fresh}/files")
                row, sums = await finished(self._complete, pending, fresh, dict(sums))
                if token not in self._rows:
                    os.rename(fresh, f"{self._directory}/{token}")
                    self._put(token, row)
                    self._remember(token, sums)
        finally:
            if os.path.isdir(fresh):
                await finished(discard, fresh)
        if pending.base:
            await finished(self._drop, pending.base)

    @contextmanager
    def use(self, token: str) -> Iterator[tuple[Context, int]]:
        """The tree, and the newest time in it, for as long as it is read. NotFound: offer anew."""
        row = self._rows.get(token)
        if row is None:
            raise NotFound(f"no such build context: {token}")
        self._put(token, replace(row, used_ns=self._now(), uses=row.uses + 1))
        with self._holding(token):
            yield Context(f"{self._directory}/{token}/files", self._known_sums(token), token), row.newest_ns

    @contextmanager
    def _holding(self, token: str) -> Iterator[None]:
        if not token:
            yield
            return
        self._held[token] = self._held.get(token, 0) + 1
        try:
            yield
        finally:
            self._held[token] -= 1
            if not self._held[token]:
                del self._held[token]
                if token in self._dropped:
                    self._drop(token)

    def _complete(
        self, pending: Pending, fresh: str, sums: dict[str, str]
    ) -> tuple[TreeRow, Mapping[str, str]]:
        """The files that were not sent, as links into the base; then hard links. Blocking."""
        known = self._known_sums(pending.base) if pending.base else {}
        root = os.open(f"{fresh}/files", _STEP)
        base = os.open(f"{self._directory}/{pending.base}/files", _STEP) if pending.base else -1
        try:
            for record in pending.records:
                if record.kind == "f" and record.path not in sums:
                    if record.path not in known or base < 0:
                        raise InvalidParameter(f"the build context lacks {record.path}")
                    _link(base, record.path, root, record.path)
                    sums[record.path] = known[record.path]
            for record in pending.records:
                if record.kind == "h":
                    if record.target not in sums:
                        raise InvalidParameter(f"the build context lacks {record.target}")
                    _link(root, record.target, root, record.path)
                    sums[record.path] = sums[record.target]
            for record in pending.records:
                if record.kind == "d":  # the links have touched it
                    _date(root, record.path, record.seconds)
        finally:
            os.close(root)
            if base >= 0:
                os.close(base)
        with open(f"{fresh}/manifest", "wb") as file:
            file.write(pending.manifest)
        with open(f"{fresh}/sums", "wb") as file:
            file.write(msgspec.msgpack.encode({os.fsencode(path): digest for path, digest in sums.items()}))
        size = sum(record.size for record in pending.records if record.kind == "f")
        now = self._now()
        latest = max((record.seconds for record in pending.records if record.kind != "d"), default=0)
        row = TreeRow(key=pending.key, size=size, newest_ns=latest * 1_000_000_000, made_ns=now, used_ns=now)
        return row, sums

    def _known_sums(self, token: str) -> Mapping[str, str]:
        sums = self._sums.get(token)
        if sums is None:
            with open(f"{self._directory}/{token}/sums", "rb") as file:
                read = msgspec.msgpack.decode(file.read(), type=dict[str | bytes, str])
            sums = {os.fsdecode(path): digest for path, digest in read.items()}
        self._remember(token, sums)
        return sums

    def _remember(self, token: str, sums: Mapping[str, str]) -> None:
        self._sums[token] = sums
        self._sums.move_to_end(token)
        while len(self._sums) > _MOST_SUMS:
            self._sums.popitem(last=False)

    # -- what is kept

    def usage(self) -> list[dict[str, Any]]:
        """Engine API, BuildCache."""
        return [
            {
                "ID": token[:25],
                "Parents": None,
                "Type": KIND,
                "Description": "local source",
                "InUse": bool(self._held.get(token)),
                "Shared": False,
                "Size": row.size,
                "CreatedAt": rfc3339(row.made_ns),
                "LastUsedAt": rfc3339(row.used_ns),
                "UsageCount": row.uses,
            }
            for token, row in self._rows.items()
        ]

    def rows(self) -> Mapping[str, TreeRow]:
        """Those that nobody uses now."""
        return {token: row for token, row in self._rows.items() if not self._held.get(token)}

    def drop(self, token: str) -> int:
        """Forget a tree; the bytes that came free. Blocking."""
        size = self._rows[token].size
        self._drop(token)
        return size

    def _put(self, token: str, row: TreeRow) -> None:
        self._table.put(token, row)
        self._rows[token] = row

    def _drop(self, token: str) -> None:
        if self._rows.pop(token, None) is not None:
            self._table.delete(token)
        self._sums.pop(token, None)
        if self._held.get(token):
            self._dropped.add(token)
            return
        self._dropped.discard(token)
        discard(f"{self._directory}/{token}")


def _date(root: int, path: str, seconds: int) -> None:
    try:
        fd = safepath.open_below(root, path, _STEP)
    except OSError as error:
        raise InvalidParameter(f"the build context lacks {path}: {error.strerror}") from error
    try:
        os.utime(fd, (seconds, seconds))
    finally:
        os.close(fd)


def _link(source: int, path: str, target: int, name: str) -> None:
    """A second name of a regular file. No symbolic link is followed on either side. InvalidParameter."""
    above, _, last = path.rpartition("/")
    place, _, new = name.rpartition("/")
    one = other = -1
    try:
        one = safepath.open_below(source, above or ".", _STEP)
        other = safepath.open_below(target, place or ".", _STEP)
        os.link(last, new, src_dir_fd=one, dst_dir_fd=other, follow_symlinks=False)
    except OSError as error:
        raise InvalidParameter(f"the build context lacks {name}: {error.strerror}") from error
    finally:
        for fd in (one, other):
            if fd >= 0:
                os.close(fd)
