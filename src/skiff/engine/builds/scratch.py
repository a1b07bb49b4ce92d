"""Directories of builds that have served: they go, however deep somebody has made them."""

from contextlib import suppress

from skiff.linux import trees


def discard(path: str) -> None:
    """Blocking. What cannot be deleted stays until the next boot."""
    with suppress(OSError):
        trees.remove(path)
