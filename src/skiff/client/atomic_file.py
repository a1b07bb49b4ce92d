"""Files that appear whole or not at all. Built-in modules only: its import is part of a command's start."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def write(path: str, pieces: Iterable[bytes]) -> None:
    """A new file takes the place of what is at path once all pieces are in it. OSError; what pieces raise."""
    part = f"{path}.{posix.getpid()}.part"
    with open(part, "wb") as file:
        try:
            for piece in pieces:
                file.write(piece)
            file.close()
            posix.rename(part, path)
        except BaseException:
            try:
                posix.unlink(part)
            except OSError:  # what went wrong first is what counts
                pass
            raise
