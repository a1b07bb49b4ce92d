"""A context that the engine has seen before: only what has changed is sent. An engine of another make has no
such endpoint; then the whole tar goes (build_context.py).

    manifest ─► token, numbers of the missing files ─► tar of those, of directories and of links
                                                    ─► or the directory itself, to an engine on this machine

The manifest's grammar stands in engine/builds/manifest.py.
"""

from __future__ import annotations

import _socket
import os
import stat
import sys

from skiff.client.build_context import BLOCK, PIECE, content, header
from skiff.client.connection import BrokenReply, EngineError, quote
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skiff.client.build_context import Context
    from skiff.client.connection import Connection, Stream

_WORTH_IT = 1 << 20  # bytes that cost more to send than another connection does
_KINDS = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}


class Sync:
    """One context on its way. manifest: what it is made of. size: bytes that were sent."""

    def __init__(self, context: Context) -> None:
        self._root = context.root
        self._entries: list[tuple[str, str, str, os.stat_result, str]] = []
        self.size = 0
        records = []
        links: dict[tuple[int, int], str] = {}
        for path, name, status in context.files():
            mode = status.st_mode
            kind, target = _KINDS.get(stat.S_IFMT(mode)), ""
            if kind is None:
                continue  # sockets and devices are no part of a context
            if kind == "l":
                target = os.readlink(path)
            elif kind == "f" and status.st_nlink > 1:
                first = links.setdefault((status.st_dev, status.st_ino), name)
                if first is not name:
                    kind, target = "h", first
            self._entries.append((kind, path, name, status, target))
            identity = f"{status.st_ino}.{status.st_ctime_ns}"
            records.append(f"{kind} {mode:o} {status.st_size} {status.st_mtime_ns} {identity} {name}")
            if kind in "lh":
                records.append(target)
        self.manifest = os.fsencode("".join([f"{record}\0" for record in records]))

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
            place = f"/skiff/build/contexts/{quote(token)}"
            if not self._is_taken(connection, place, missing):
                connection.request("PUT", place, body=through(self._tar(set(missing)))).read()
        return token

    def _is_taken(self, connection: Connection, place: str, missing: list[int]) -> bool:
        """Whether the engine has taken the files itself. When it is elsewhere, or cannot read them, nothing
        has happened.
        """
        if connection.endpoint.kind != "unix":
            return False
        size = sum(self._entries[number][3].st_size for number in missing)
        if size < _WORTH_IT:
            return False
        # the engine may read more than we: what is not ours to send is told by the tar that stops there
        if os.geteuid() and not all(os.access(self._entries[number][1], os.R_OK) for number in missing):
            return False
        try:
            stream = connection.hijack(f"{place}/attach")
        except (EngineError, BrokenReply):
            return False
        try:
            _give(stream, self._root)
            answer = b"".join(iter(stream.recv, b""))
        except OSError:
            return False
        finally:
            stream.close()
        if answer != b"{}":
            return False
        self.size += size
        return True

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
        for number, (kind, path, shown, status, target) in enumerate(self._entries):
            name = os.fsencode(shown)
            changed = int(status.st_mtime)
            if kind == "d":
                yield header(b"5", name + b"/", status.st_mode, 0, changed)
            elif kind == "l":
                yield header(b"2", name, 0o777, 0, changed, os.fsencode(target))
            elif kind == "p":
                yield header(b"6", name, status.st_mode, 0, changed)
            elif number in missing:
                yield header(b"0", name, status.st_mode, status.st_size, changed)
                yield from content(path, status.st_size)


def _give(stream: Stream, directory: str) -> None:
    """A directory's descriptor, with one byte. unix(7), SCM_RIGHTS."""
    assert isinstance(stream.sock, _socket.socket)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))
        stream.sock.sendmsg([b"d"], [rights])
    finally:
        os.close(fd)
