"""First use of an empty volume: it receives what the image has at that place.

Owners, modes, times, links and extended attributes are kept; devices and sockets are not copied.
"""

import os

from skiff.engine.storage import copying
from skiff.engine.storage.numbered import tree_usage


def is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def fill(target: str, source: str) -> None:
    """Copy the content of `source` into the empty directory `target`, and give it the same owner and mode.

    Another container may have the volume and put links in our way: none is followed.
    """
    copying.copy_content(source, target)


def size(directory: str) -> int:
    """Bytes of the files below a directory; 0 when it is gone. Hard links count once."""
    try:
        return tree_usage(directory).bytes
    except FileNotFoundError:
        return 0
