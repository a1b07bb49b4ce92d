"""A context that the client gives as an open directory, being on the same machine: no tar is made of it.

    client ── POST …/contexts/{token}/attach, upgraded ──► one byte with the descriptor (SCM_RIGHTS)
           ◄── {} when everything is here, else {"message": …}: then it sends a tar

As many helpers copy as there are processors for them: each takes files of about as many bytes.
"""

import asyncio
import os
import socket
from collections.abc import Sequence

from skiff.engine.builds.manifest import Record
from skiff.engine.builds.threads import finished
from skiff.engine.storage.extractor import Extractor
from skiff.engine.storage.gather import Item
from skiff.errors import InvalidParameter

_PATIENCE = 10.0  # seconds, for the byte
_FILE = 1 << 14  # bytes that a file costs beside its own
_MOST_HELPERS = 4
_FEW = 64  # files that are not worth a second helper


async def gather(
    extractor: Extractor, records: Sequence[Record], client: socket.socket, directory: str
) -> dict[str, str]:
    """Copy what the records name into directory, which is made; SHA-256 by path.

    InvalidParameter: no descriptor came. OSError.
    """
    source = await finished(_given, client)
    try:
        os.mkdir(directory, 0o755)
        target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return await _gathered(extractor, records, source, target, client.fileno())
        finally:
            os.close(target)
    finally:
        os.close(source)


def _given(client: socket.socket) -> int:
    client.settimeout(_PATIENCE)
    try:
        _, fds, _, _ = socket.recv_fds(client, 1, 1)
    except TimeoutError:
        fds = []
    client.settimeout(None)
    if not fds:
        raise InvalidParameter("no directory came: this connection carries no descriptors")
    return fds[0]


async def _gathered(
    extractor: Extractor, records: Sequence[Record], source: int, target: int, waiting: int
) -> dict[str, str]:
    frame = [_item(one) for one in records if one.kind in "dlp"]
    if frame:
        await finished(extractor.gather, source, target, frame, waiting)
    files = [_item(one) for one in records if one.kind == "f"]
    parts = shares(files, min(len(os.sched_getaffinity(0)), _MOST_HELPERS))
    work = [finished(extractor.gather, source, target, part, waiting) for part in parts]
    sums: dict[str, str] = {}
    for found in await asyncio.gather(*work, return_exceptions=True):  # all have ended, whatever happens
        if isinstance(found, BaseException):
            raise found
        sums |= found
    return sums


def shares(files: Sequence[Item], most: int) -> list[Sequence[Item]]:
    """The files in at most so many parts that cost about the same, each in its order. Pure."""
    count = max(1, min(most, len(files) // _FEW))
    whole = sum(_cost(one) for one in files)
    parts: list[list[Item]] = [[] for _ in range(count)]
    done = 0
    for one in files:
        parts[min(done * count // max(whole, 1), count - 1)].append(one)
        done += _cost(one)
    return [part for part in parts if part]


def _cost(item: Item) -> int:
    return item[3] + _FILE


def _item(record: Record) -> Item:
    return record.kind, record.path, record.mode, record.size, record.seconds, record.target
