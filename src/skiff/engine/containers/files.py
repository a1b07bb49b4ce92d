"""Files in and out of containers: what is at a path, archives both ways, export, and what has changed.

It decides where to look; the looking is done by a process apart (visiting/). A stopped container is locked
meanwhile: its layers must not be mounted twice.
"""

import asyncio
import contextlib
import os
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import PurePosixPath
from typing import Any

from skiff.engine.containers.announce import Announcer
from skiff.engine.containers.changed import changed
from skiff.engine.containers.ground import Change, changes
from skiff.engine.containers.live import Live
from skiff.engine.containers.record import Container, Records
from skiff.engine.containers.starting import Starting
from skiff.engine.containers.visiting.visits import Visit, Visitor
from skiff.engine.containers.volumes import Volumes
from skiff.engine.storage.compression import detect
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.engine.storage.uploads import Body, Upload
from skiff.errors import InvalidParameter
from skiff.linux.fds import widen_socket
from skiff.paths import DataPaths

HOST_FILES = ("resolv.conf", "hostname", "hosts")
AHEAD = 4 << 20  # bytes on their way to whoever unpacks
KERNELS = frozenset(
    ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs", "tracefs", "bpf")
)


class Files:
    """visitor: closed by whoever made it."""

    def __init__(
        self,
        *,
        records: Records,
        live: Live,
        snapshots: Snapshotter,
        volumes: Volumes,
        starting: Starting,
        data: DataPaths,
        announce: Announcer,
        visitor: Visitor,
    ) -> None:
        self.records = records
        self.live = live
        self.snapshots = snapshots
        self.volumes = volumes
        self.starting = starting
        self.data = data
        self.announce = announce
        self.visitor = visitor

    async def stat(self, name: str, path: str) -> dict[str, Any]:
        """What is at path, as X-Docker-Container-Path-Stat has it. NotFound."""
        async with self._visit(name, {"act": "head", "path": path}) as visit:
            return visit.stat

    async def names(self, name: str, path: str) -> list[str]:
        """What is in a directory, its own directories with a slash behind them; some thousands. NotFound."""
        async with self._visit(name, {"act": "names", "path": path}) as visit:
            return visit.names

    @asynccontextmanager
    async def reading(self, name: str, path: str) -> AsyncIterator[Visit]:
        """A visit that gives the archive of path once it is told to go. NotFound."""
        async with self._visit(name, {"act": "get", "path": path}) as visit:
            self.announce(self.records.find(name), "archive-path")
            yield visit

    @asynccontextmanager
    async def exporting(self, name: str) -> AsyncIterator[Visit]:
        """A visit that gives the whole root file system, without what is mounted in it. NotFound."""
        async with self._visit(name, {"act": "export", "path": "/"}) as visit:
            yield visit
            self.announce(self.records.find(name), "export")

    async def put(
        self,
        name: str,
        path: str,
        archive: Body,
        *,
        keep_kind: bool = False,
        as_user: bool = False,
    ) -> None:
        """Extract an archive, perhaps compressed, into the directory path.

        keep_kind: a directory is never replaced by something else, nor the reverse. as_user: everything
        belongs to the container's user. NotFound, InvalidParameter. Engine API, PutContainerArchive.
        """
        container = self.records.find(name)
        first = await archive.head() if isinstance(archive, Upload) else await _head(archive)
        owner = None
        if as_user and container.config.user:
            user = self.starting.identities.of(container, container.config.user).user
            owner = (user.uid, user.gid)
        job = {
            "act": "put",
            "path": path,
            "keep_kind": keep_kind,
            "owner": owner,
            "compression": detect(first[:16]),
            "read_only": container.host.readonly_rootfs,
            "volumes": [(plan.destination, not plan.rw) for plan in container.mounts if plan.type != "tmpfs"],
        }
        async with self._visit(name, job) as visit:
            if not first:
                return
            if isinstance(archive, Upload):
                await _hand_over(visit, archive)
            else:
                await _feed(visit, first, archive)
            self.announce(container, "extract-to-dir")

    async def changes(self, name: str) -> Sequence[Change]:
        """What differs from the image, sorted by path. NotFound."""
        container = self.records.find(name)
        return await asyncio.to_thread(self._changes, container.id)

    def _changes(self, id: str) -> Sequence[Change]:
        with changed(self.snapshots, id, str(self.data.tmp)) as (upper, lowers):
            return changes(upper, lowers)

    @asynccontextmanager
    async def _visit(self, name: str, job: dict[str, Any]) -> AsyncIterator[Visit]:
        if not job["path"]:
            raise InvalidParameter("bad parameter: pathcannot be empty")
        container = self.records.find(name)
        async with AsyncExitStack() as stack:
            if container.id not in self.live.tasks:
                await stack.enter_async_context(self.live.locks[container.id])
            task = self.live.tasks.get(container.id)
            fds: list[int] = []
            if task is not None:
                job = {
                    **job,
                    "hidden": _kernel_mounts(task.pid, [plan.destination for plan in container.mounts]),
                }
                for what, flags in (("ns/mnt", os.O_RDONLY), ("root", os.O_PATH | os.O_DIRECTORY)):
                    fds.append(os.open(f"/proc/{task.pid}/{what}", flags | os.O_CLOEXEC))
                    stack.callback(os.close, fds[-1])
            else:
                job = {
                    **job,
                    **await self._stopped(
                        self.records.get(container.id), stack, alone=job["act"] == "export"
                    ),
                }
            visit = await self.visitor.visit(job, fds, path=job["path"], container=name)
            stack.callback(visit.close)
            yield await visit.opened()

    async def _stopped(self, container: Container, stack: AsyncExitStack, *, alone: bool) -> dict[str, Any]:
        """What to mount where, for a container that does not run. alone: nothing but its root."""
        (root,) = self.snapshots.mounts(SnapshotKey(container.id))
        at = tempfile.mkdtemp(prefix="visit-", dir=str(self.data.tmp))
        stack.callback(_remove_directory, at)
        rootfs = {"type": root.type, "source": root.source, "options": list(root.options or ())}
        if alone:
            return {"rootfs": rootfs, "binds": [], "at": at}
        reader = f"visit-{container.id}"
        binds = []
        for plan in sorted(container.mounts, key=lambda plan: plan.destination.count("/")):
            source = plan.source
            if plan.type == "tmpfs":
                continue
            if plan.type == "volume":
                source = await self.volumes.open(plan.name, reader)
                stack.push_async_callback(self.volumes.close, plan.name, reader)
            bind = {"source": source, "target": plan.destination, "ro": not plan.rw, "part": plan.subpath}
            binds.append(bind)
        directory = self.data.container(container.id)
        taken = {bind["target"] for bind in binds}
        for file in HOST_FILES:
            if os.path.exists(f"{directory}/{file}") and f"/etc/{file}" not in taken:
                binds.append(
                    {"source": f"{directory}/{file}", "target": f"/etc/{file}", "ro": False, "part": ""}
                )
        return {"rootfs": rootfs, "binds": binds, "at": at}


def _kernel_mounts(pid: int, wanted: Sequence[str]) -> list[str]:
    """Where the process has mounts that hold nobody's files: the kernel's, and /dev. What is mounted below
    goes with them, so only the outermost are told.

    wanted: destinations that the user asked for. Links in proc lead elsewhere, so proc is always among them.
    proc_pid_mountinfo(5)
    """
    found = set()
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            before, _, after = line.partition(" - ")
            path = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split(" ")[4])
            in_dev = path == "/dev" or path.startswith("/dev/")
            if after.split(" ", 1)[0] in KERNELS or (in_dev and path not in wanted):
                found.add(path)
    return [
        path for path in sorted(found) if not found & {str(above) for above in PurePosixPath(path).parents}
    ]


async def _head(archive: AsyncIterator[bytes]) -> bytes:
    """Enough of its first bytes to tell a compression by, or all there are."""
    first = b""
    async for chunk in archive:
        first += chunk
        if len(first) >= 16:
            break
    return first


async def _hand_over(visit: Visit, archive: Upload) -> None:
    """The visit reads the client's socket itself."""
    with archive.handed_over() as (stream, early):
        await visit.go(stream, early, framed=True)
    try:
        await visit.answer()
    finally:
        archive.close(ended=visit.ended)


async def _feed(visit: Visit, first: bytes, archive: AsyncIterator[bytes]) -> None:
    """The archive's bytes into the visit, until its end or until the visit has ended."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    widen_socket(ours, AHEAD)  # a full buffer costs a turn of the loop
    with ours:
        with theirs:
            await visit.go(theirs.fileno())
        ending = asyncio.ensure_future(visit.answer())
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer says why
                await loop.sock_sendall(ours, first)
                async for chunk in archive:
                    await loop.sock_sendall(ours, chunk)
                ours.shutdown(socket.SHUT_WR)
            await ending
        finally:
            ending.cancel()


def _remove_directory(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)
