"""What a tar holds beside the contents of its files, noted while it is extracted: with the files it can be
written again, to the byte. Whoever packed it, and however: headers and padding are kept as they were.

    notes  := gzip of { record }
    record := size length path bytes        size: 8 bytes, length: 4, both little-endian
              length 0: the next `size` bytes of the tar follow; else they are the content of that file
"""

import os
from collections.abc import Iterable
from struct import Struct

from isal import isal_zlib

from skiff.engine.storage.tarstream import Source

RECORD = Struct("<QI")
_HELD = 1 << 16  # bytes that are compressed at once


class Noting(Source):
    """A Source that notes into the file fd what is read of it, contents aside."""

    __slots__ = ("_fd", "_out", "_raw", "_raw_size", "_stream")

    def __init__(self, chunks: Iterable[bytes], fd: int) -> None:
        super().__init__(chunks)
        self._fd = fd
        self._stream = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
        self._raw: list[bytes] = []
        self._raw_size = 0

    def read(self, size: int) -> bytes:
        data = super().read(size)
        self._note(data)
        return data

    def skip(self, size: int) -> None:
        for piece in self._pieces(size, True):
            self._note(bytes(piece))

    def drain(self) -> None:
        while True:
            self._note(bytes(self._view[self._position : self._end]))
            self._position = self._end
            if not self._fill():
                break
        self._settle()
        _write(self._fd, self._stream.flush())

    def took(self, path: bytes, size: int) -> None:
        self._settle()
        _write(self._fd, self._stream.compress(RECORD.pack(size, len(path)) + path))

    def _note(self, data: bytes) -> None:
        self._raw.append(data)
        self._raw_size += len(data)
        if self._raw_size >= _HELD:
            self._settle()

    def _settle(self) -> None:
        if self._raw_size:
            record = b"".join([RECORD.pack(self._raw_size, 0), *self._raw])
            _write(self._fd, self._stream.compress(record))
        self._raw, self._raw_size = [], 0


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
