"""The bundle of a task: the directory with config.json that the runtime works in.

Lives below the exec root, one per container; nothing in it outlives a boot.
"""

import os
import shutil

from msgspec import Struct, json

from skiff.oci.runtime import Spec
from skiff.paths import RunPaths


class Bundle(Struct, frozen=True):
    """path: absolute directory holding config.json and the rootfs mount point."""

    id: str
    path: str


def write(run: RunPaths, id: str, spec: Spec) -> Bundle:
    """A fresh bundle for the container; an old one of that id is replaced."""
    path = str(run.task(id))
    try:
        os.mkdir(path, mode=0o700)
    except FileExistsError:
        remove(run, id)
        os.mkdir(path, mode=0o700)
    except FileNotFoundError:
        os.makedirs(path, mode=0o700)
    os.mkdir(f"{path}/rootfs", mode=0o700)
    fd = os.open(f"{path}/config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(json.encode(spec))
    return Bundle(id=id, path=path)


def remove(run: RunPaths, id: str) -> None:
    """Delete the bundle directory; it is no error if there is none."""
    path = str(run.task(id))
    try:  # what is left of one whose task was deleted
        os.unlink(f"{path}/config.json")
        os.rmdir(f"{path}/rootfs")
        os.rmdir(path)
        return
    except OSError:
        pass  # there is more, or less
    for _ in range(3):  # its monitor may be taking files away at the same time
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
