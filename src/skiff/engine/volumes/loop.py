"""A volume of a fixed size: a sparse file with an ext4 file system, mounted while somebody uses it.

It works on any file system, needs no quota, and takes only the space that is written.
"""

import os
import subprocess
from typing import Final

from skiff.errors import InvalidParameter, SkiffError
from skiff.linux import loops, mounts

LEAST: Final = 1 << 20  # bytes; mke2fs makes nothing smaller that holds files


def check(size: int) -> None:
    """InvalidParameter for a size that no file system has."""
    if size < LEAST:
        raise InvalidParameter(f"invalid size {size}: expected at least {LEAST} bytes")


def create(image: str, size: int, target: str) -> None:
    """A new file system. target: an empty directory, needed for a moment. SkiffError."""
    descriptor = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, size)
    finally:
        os.close(descriptor)
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal", image]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except FileNotFoundError as error:
        raise SkiffError("a volume with a size needs the program mke2fs (e2fsprogs)") from error
    if done.returncode:
        raise SkiffError(f"mke2fs failed: {done.stderr.strip()}")
    mount(image, target)
    try:
        # An image's content is copied into a volume only while that is empty.
        os.rmdir(f"{target}/lost+found")
    finally:
        mounts.unmount(target, lazily=False)


def mount(image: str, target: str) -> None:
    """Nothing happens when it is mounted already. SkiffError."""
    if os.stat(target).st_dev != os.stat(os.path.dirname(target)).st_dev:
        return
    try:
        with loops.attached(image) as device:
            mounts.mount(device, target, "ext4", mounts.MS_NODEV | mounts.MS_NOSUID)
    except OSError as error:
        raise SkiffError(
            f"failed to mount local volume: mount {image}:{target}: {(error.strerror or str(error)).lower()}"
        ) from error
