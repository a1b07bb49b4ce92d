"""A context that the engine has seen before: only what has changed is sent. An engine of another make has no
such endpoint; then the whole tar goes (build_context.py).

    manifest ─► token, numbers of the missing files ─► tar of those, of directories and of links

The manifest's grammar stands in engine/builds/kept.py.
"""

from __future__ import annotations

import os
import stat

from skiff.client.build_context import BLOCK, PIECE, content, header
from skiff.client.connection import quote
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skiff.client.build_context import Context
    from skiff.client.connection import Connection

_KINDS = {stat.S_IFDIR: b"d", stat.S_IFREG: b"f", stat.S_IFLNK: b"l", stat.S_IFIFO: b"p"}


class Sync:
    """One context on its way. manifest: what it is made of. size: bytes that were sent."""

    def __init__(self, context: Context) -> None:
        self._entries: list[tuple[bytes, str, bytes, os.stat_result, bytes]] = []
        self.size = 0
        records = []
        links: dict[tuple[int, int], bytes] = {}
        for path, shown, status in context.files():
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            if kind is None:
                continue  # sockets and devices are no part of a context
            name, target = os.fsencode(shown), b""
            if kind == b"l":
                target = os.fsencode(os.readlink(path))
            elif kind == b"f" and status.st_nlink > 1:
                first = links.setdefault((status.st_dev, status.st_ino), name)
                if first is not name:
                    kind, target = b"h", first
            self._entries.append((kind, path, name, status, target))
            records.append(
                b"%b %o %d %d %d.%d %b\0"
                % (
                    kind,
                    status.st_mode,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ino,
                    status.st_ctime_ns,
                    name,
                )
            )
            if kind in b"lh":
                records.append(target + b"\0")
        self.manifest = b"".join(records)

    def run(
        self, connection: Connection, key: str, through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
    ) -> str:
        """The token that a build names. EngineError: 404 when the engine knows no such thing."""
        query = {"key": key}
        offered = connection.request("POST", "/skiff/build/contexts", query=query, body=self.manifest).json()
        self.size = len(self.manifest)
        token = str(offered["Token"])
        missing = offered["Missing"]
        if missing is not None:
            path = f"/skiff/build/contexts/{quote(token)}"
            connection.request("PUT", path, body=through(self._tar(set(missing)))).read()
        return token

    def _tar(self, missing: set[int]) -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        try:
            for data in self._blocks(missing):
                held.append(data)
                size += len(data)
                if size >= PIECE:
                    self.size += size
                    yield b"".join(held)
                    held, size = [], 0
        except PermissionError as error:
            raise InvalidParameter(f"error checking context: can't stat '{error.filename}'") from error
        self.size += size + 2 * BLOCK
        yield b"".join([*held, bytes(2 * BLOCK)])

    def _blocks(self, missing: set[int]) -> Iterator[bytes]:
        for number, (kind, path, name, status, target) in enumerate(self._entries):
            changed = int(status.st_mtime)
            if kind == b"d":
                yield header(b"5", name + b"/", status.st_mode, 0, changed)
            elif kind == b"l":
                yield header(b"2", name, 0o777, 0, changed, target)
            elif kind == b"p":
                yield header(b"6", name, status.st_mode, 0, changed)
            elif number in missing:
                yield header(b"0", name, status.st_mode, status.st_size, changed)
                yield from content(path, status.st_size)
