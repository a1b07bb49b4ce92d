"""status.json: what a monitor leaves for the next engine. Whole or not at all."""

import os

from skiff.runtime.protocol import Status, encode

NAME = "status.json"


def write(bundle: int, status: Status) -> None:
    """Replace the file in the bundle (a directory descriptor) by this status."""
    new = f"{NAME}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(new, flags, 0o600, dir_fd=bundle)
    try:
        os.write(fd, encode(status))
    finally:
        os.close(fd)
    os.rename(new, NAME, src_dir_fd=bundle, dst_dir_fd=bundle)
