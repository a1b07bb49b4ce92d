"""What skiff-oci keeps of a container: a directory, and whether its init still lives.

<root>/<id>/state.json    what create knew: pid and its start time, bundle, cgroup, namespaces
            config.json   the spec as it was at create
            gate          a FIFO: init waits here for a byte from `start` (there: created; gone: started)
            report        a FIFO: init tells here why execve failed; its end means success
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from skiff.errors import Conflict, InvalidParameter, NotFound
from skiff.linux import cgroups
from skiff.oci import runtime as oci


class Record(Struct, frozen=True):
    """state.json. started: of init, in clock ticks since boot, so that a reused pid is not taken for it."""

    id: str
    pid: int
    started: int
    bundle: str
    rootfs: str
    cgroup: str
    created: str
    namespaces: int
    owns_pids: bool


class Store:
    """The directory of one root: which containers there are, and what they do now."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, id: str, *parts: str) -> str:
        return os.path.join(self.root, id, *parts)

    def claim(self, id: str) -> None:
        """Make the directory. Conflict when there is such a container."""
        if not id or id in (".", "..") or not all(c.isascii() and (c.isalnum() or c in "+-._") for c in id):
            raise InvalidParameter(f"invalid container id {id!r}: expected letters, digits and + - . _")
        os.makedirs(self.root, 0o711, exist_ok=True)
        try:
            os.mkdir(self.path(id), 0o711)
        except FileExistsError:
            raise Conflict(f"container with id exists: {id}") from None

    def save(self, record: Record) -> None:
        fresh = self.path(record.id, "state.json.new")
        with open(fresh, "wb") as file:
            file.write(msgspec.json.encode(record))
        os.rename(fresh, self.path(record.id, "state.json"))

    def load(self, id: str) -> Record:
        try:
            with open(self.path(id, "state.json"), "rb") as file:
                return msgspec.json.decode(file.read(), type=Record)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("container does not exist") from None

    def spec(self, id: str) -> oci.Spec:
        return read_spec(self.path(id, "config.json"))

    def all(self) -> Iterator[Record]:
        for id in sorted(os.listdir(self.root)) if os.path.isdir(self.root) else ():
            with contextlib.suppress(NotFound):
                yield self.load(id)

    def status(self, record: Record) -> str:
        """Creating has no record; created running paused stopped."""
        if start_time(record.pid) != record.started:
            return "stopped"
        if os.path.exists(self.path(record.id, "gate")):
            return "created"
        group = group_of(record)
        return "paused" if group.exists() and group.is_frozen() else "running"

    def remove(self, id: str) -> None:
        shutil.rmtree(self.path(id), ignore_errors=True)


def read_spec(path: str) -> oci.Spec:
    """A config.json. InvalidParameter when it is none."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=oci.Spec)
    except FileNotFoundError:
        raise InvalidParameter(f"JSON specification file {path} not found") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"{path}: {error}") from error


def start_time(pid: int) -> int:
    """proc(5), stat, field 22; 0 for a process that is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def group_of(record: Record) -> cgroups.Group:
    return cgroups.existing(cgroups.layout(), record.cgroup)


def state_of(store: Store, record: Record) -> dict[str, Any]:
    status = store.status(record)
    return {
        "ociVersion": oci.VERSION,
        "id": record.id,
        "pid": 0 if status == "stopped" else record.pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "annotations": dict(store.spec(record.id).annotations),
    }
