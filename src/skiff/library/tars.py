"""Tars on their way between a program and an engine, as files or in pieces: never one whole in memory."""

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO

from skiff.client import atomic_file
from skiff.client.bulk import FilePart
from skiff.client.connection import Response

Path = str | os.PathLike[str]
Source = Path | bytes | IO[bytes] | Iterable[bytes]
Target = Path | IO[bytes]
Pieces = Iterator[bytes | FilePart]
PIECE = 1 << 20
BLOCK = 512


def sent(source: Source) -> Pieces:
    """What goes to the engine. A path is opened at once (OSError), all else is read as it goes."""
    if isinstance(source, (str, os.PathLike)):
        return _file(open(source, "rb"))
    read = getattr(source, "read", None)
    if read is not None:
        return _read(read)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return iter((bytes(source),))
    return iter(source)


def _file(file: IO[bytes]) -> Pieces:
    with file:
        size = os.fstat(file.fileno()).st_size
        if size:
            yield FilePart(file.fileno(), size)
        else:  # a pipe's, or a device's
            yield from _read(file.read)


def _read(read: Callable[[int], bytes]) -> Pieces:
    while piece := read(PIECE):
        yield piece


def kept(reply: Response, target: Target) -> None:
    """What the engine sends is written as it comes. A file by its path appears when it is whole."""
    try:
        if not isinstance(target, (str, os.PathLike)):
            for piece in reply.chunks():
                target.write(piece)
        else:
            atomic_file.write(os.fspath(target), reply.chunks())
    finally:
        reply.close()


def packed(files: Mapping[str, bytes | str | None], *, mode: int, folder_mode: int) -> Iterator[bytes]:
    """A tar of files: name → contents; None makes a directory."""
    for name, data in files.items():
        about = tarfile.TarInfo(name)
        if data is None:
            about.type, about.mode = tarfile.DIRTYPE, folder_mode
            yield about.tobuf()
            continue
        content = data.encode() if isinstance(data, str) else data
        about.size, about.mode = len(content), mode
        yield about.tobuf()
        yield content
        yield bytes(-len(content) % BLOCK)
    yield bytes(2 * BLOCK)
