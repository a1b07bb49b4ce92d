"""Loop devices: a file as a block device. loop(4)."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82
LO_FLAGS_AUTOCLEAR = 4
_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")  # struct loop_config of linux/loop.h
_TRIES = 20


@contextmanager
def attached(path: str) -> Iterator[str]:
    """The device of a file, inside the block; a mount made there keeps it until it is unmounted. OSError."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        device, name = _attach(file, path)
    finally:
        os.close(file)
    try:
        yield name
    finally:
        os.close(device)


def _attach(file: int, path: str) -> tuple[int, str]:
    for _ in range(_TRIES):
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            name = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        finally:
            os.close(control)
        device = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        label = os.fsencode(path)[-63:]
        config = _CONFIG.pack(
            *(file, 0), *[0] * 5, *(0, 0, 0, LO_FLAGS_AUTOCLEAR), *(label, b"", b""), *[0] * 10
        )
        try:
            fcntl.ioctl(device, LOOP_CONFIGURE, config)
            return device, name
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:  # somebody took it between the two calls
                error.filename = path
                raise
    raise OSError(errno.EBUSY, "no free loop device", path)
