"""Bytes on their way between a file and the engine: shown to a person at a terminal when it takes long."""

from __future__ import annotations

import sys
import time

from skiff.client.bulk import FilePart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from skiff.client.bulk import Body

    Piece = TypeVar("Piece", bound=bytes | FilePart)

PATIENCE = 0.5  # seconds before anything is shown
INTERVAL = 0.1
PART = 4 << 20


class Transfer:
    """`Saving [=====>    ]  1.2MB/3MB` on stderr, drawn in place and taken away again; elsewhere nothing.

    size: bytes so far. total: 0 when it is not known.
    """

    def __init__(self, title: str, *, total: int = 0, quiet: bool = False) -> None:
        self.shows = not quiet and sys.stderr.isatty()
        self.size = 0
        self._title = title
        self._total = total
        self._next = time.monotonic() + PATIENCE
        self._is_drawn = False

    def through(self, chunks: Iterator[Piece]) -> Iterator[Piece]:
        try:
            for chunk in chunks:
                for piece in self._pieces(chunk):
                    yield piece
                    self.moved(len(piece))
        finally:
            self.clear()

    def moved(self, size: int) -> None:
        self.size += size
        if self.shows and time.monotonic() > self._next:
            self._draw()

    def _pieces(self, chunk: Piece) -> Iterator[Piece]:
        """What is sent without passing through here goes in parts, so that it can be counted."""
        if self.shows and isinstance(chunk, FilePart):
            yield from chunk.cut(PART)  # type: ignore[misc]
        else:
            yield chunk

    def clear(self) -> None:
        if self._is_drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_drawn = False

    def _draw(self) -> None:
        from skiff.cli.progress import bar, columns

        detail = {"current": self.size, "total": self._total}
        sys.stderr.write(f"\r\x1b[K{self._title} {bar(detail, columns(sys.stderr)).lstrip()}")
        sys.stderr.flush()
        self._is_drawn = True
        self._next = time.monotonic() + INTERVAL


class Watched:
    """A body that is counted as it is taken."""

    def __init__(self, body: Body, transfer: Transfer) -> None:
        self._body = body
        self._transfer = transfer

    def take(self) -> bytes:
        data = self._body.take()
        self._transfer.moved(len(data))
        return data

    def pour(self, fd: int, size: int) -> None:
        most = PART if self._transfer.shows else size
        for at in range(0, size, most):
            part = min(most, size - at)
            self._body.pour(fd, part)
            self._transfer.moved(part)
