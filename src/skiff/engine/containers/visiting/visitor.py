"""The program that looks into containers for the engine: one process, a child of its own for each job.

    engine ── SEQPACKET: job (JSON) + [control, mount namespace, root] ──► visitor ── fork ──► child: enter
       ▲                                                                                         │
       └── control: what is there ── the engine: go + [data] ──► the bytes flow ── how it went ──┘

The rule: a child does nothing before its root is the container's, and imports nothing after. It is started
without `site`; it leaves when the engine does, or when idle.
"""

import contextlib
import gc
import json
import os
import select
import socket
import sys
from typing import Any

from skiff.engine.containers.visiting import enter, resolve
from skiff.engine.containers.visiting.pack import Outlet, Packer
from skiff.engine.containers.visiting.resolve import TooManyLinks
from skiff.engine.containers.visiting.unpack import Refused, Unpacking
from skiff.engine.storage import compression
from skiff.engine.storage.chunks import Chunks
from skiff.engine.storage.tarstream import Source
from skiff.errors import HostileArchive

IDLE_SECONDS = 30.0
LARGEST_JOB = 1 << 18


class Failure(Exception):
    """What the engine is told: a kind it knows, and words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def main(fd: int) -> None:
    """Serve jobs from the socket fd until it ends or nothing came for a while."""
    # A job ends before a collection pays; those that fork from here need not copy what one would touch.
    gc.disable()
    # A path of 4095 bytes has 2048 parts, and each may take several calls.
    sys.setrecursionlimit(20_000)
    door = socket.socket(fileno=fd)
    children: set[int] = set()
    while True:
        is_idle = not children
        readable, _, _ = select.select([door], [], [], IDLE_SECONDS if is_idle else 0.2)
        for child in list(children):
            if os.waitpid(child, os.WNOHANG)[0]:
                children.discard(child)
        if not readable:
            if is_idle:
                return
            continue
        message, fds, _, _ = socket.recv_fds(door, LARGEST_JOB, 3)
        if not message:
            return
        child = os.fork()
        if child == 0:
            code = 1
            try:
                door.close()
                _serve(json.loads(message), socket.socket(fileno=fds[0]), fds[1:])
                code = 0
            finally:
                os._exit(code)
        children.add(child)
        for one in fds:
            os.close(one)


def _serve(job: dict[str, Any], control: socket.socket, fds: list[int]) -> None:
    os.umask(0)
    try:
        try:
            compression.prepare(job.get("compression", "none"))
            _enter(job, fds)
            answer = _ACTS[job["act"]](job, control)
        except TooManyLinks:
            raise Failure("failed", f"evalSymlinksInScope: too many links in {job['path']}") from None
    except Failure as failure:
        answer = {"error": failure.kind, "message": str(failure)}
    except Refused as refusal:
        answer = {"error": "failed", "message": str(refusal)}
    except HostileArchive as error:
        answer = {"error": "hostile", "message": str(error)}
    except OSError as error:
        answer = {"error": "failed", "message": f"{error.filename or job['act']}: {error.strerror or error}"}
    with contextlib.suppress(BrokenPipeError):
        _say(control, {**answer, "ended": job.get("ended", False)})


def _enter(job: dict[str, Any], fds: list[int]) -> None:
    if fds:
        enter.running(fds[0], fds[1], job["hidden"], alone=job["act"] == "export")
    else:
        enter.stopped(job["rootfs"], job["binds"], job["at"])


def _look(job: dict[str, Any]) -> tuple[bytes, bytes, os.stat_result]:
    """(the path as asked for, what it means, what is there)."""
    path = resolve.absolute(os.fsencode(job["path"]))
    meant = resolve.resolved(path, last=resolve.means_content(path))
    try:
        status = os.lstat(meant)
    except FileNotFoundError:
        raise Failure("missing", "") from None
    except NotADirectoryError:
        raise _no_directory(path) from None
    if resolve.means_content(path) and status.st_mode & 0o170000 != 0o040000:
        raise _no_directory(path)
    return path, meant, status


def _no_directory(path: bytes) -> Failure:
    return Failure("failed", f"lstat {os.fsdecode(path)}: not a directory")


def _stat(path: bytes, meant: bytes, status: os.stat_result) -> dict[str, Any]:
    target = b""
    if status.st_mode & 0o170000 == 0o120000:
        target = resolve.resolved(meant, last=True)
    return {
        "name": os.fsdecode(resolve.base(path)),
        "size": status.st_size,
        "mode": resolve.file_mode(status.st_mode),
        "mtime": resolve.instant(status.st_mtime_ns),
        "linkTarget": os.fsdecode(target),
    }


def _head(job: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    return {"stat": _stat(*_look(job))}


def _names(job: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    """What fits into one answer; links to directories count as such."""
    _, meant, _ = _look(job)
    found: list[str] = []
    size = 0
    with os.scandir(meant) as entries:
        for entry in entries:
            name = os.fsdecode(entry.name) + ("/" if entry.is_dir() else "")
            size += len(name) * 6 + 4  # JSON escapes a character by six
            if size > LARGEST_JOB // 2:
                break
            found.append(name)
    return {"names": sorted(found)}


def _get(job: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    path, meant, status = _look(job)
    parent = os.open(os.path.dirname(meant), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    _say(control, {"stat": _stat(path, meant, status)})
    outlet = _outlet(control)
    packer = Packer(outlet)
    packer.entry(parent, os.path.basename(meant) or b".", resolve.base(path))
    packer.end()
    return {}


def _export(job: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    _say(control, {})
    packer = Packer(_outlet(control))
    packer.content(root, b"", os.fstat(root).st_dev)
    packer.end()
    return {}


def _put(job: dict[str, Any], control: socket.socket) -> dict[str, Any]:
    path = resolve.absolute(os.fsencode(job["path"]))
    _look({"path": os.fsdecode(path)}) if resolve.means_content(path) else None
    meant = resolve.resolved(path, last=True)
    try:
        status = os.lstat(meant)
    except FileNotFoundError:
        raise Failure("missing", "") from None
    except NotADirectoryError:
        raise _no_directory(path) from None
    if status.st_mode & 0o170000 != 0o040000:
        raise Failure("invalid", "extraction point is not a directory")
    _check_writable(os.fsdecode(meant), job)
    where = os.open(meant, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.fchdir(where)
    os.close(where)
    _say(control, {})
    (source, *early), is_framed = _go(control)
    owner = job["owner"]
    unpacking = Unpacking(path, keep_kind=job["keep_kind"], owner=tuple(owner) if owner else None)
    if not is_framed:
        unpacking.run(Source(compression.decompressed(lambda size: os.read(source, size))))
        return {}
    chunks = Chunks(source, _content(early[0]))
    try:
        if job["compression"] == "none":
            unpacking.run(Source(compression.plain(chunks.read), chunks.pour))
        else:
            unpacking.run(Source(compression.decompressed(chunks.read)))
    finally:
        job["ended"] = chunks.drain()
    return {}


def _content(fd: int) -> bytes:
    with open(fd, "rb", buffering=0) as file:
        file.seek(0)
        return file.readall()


def _check_writable(path: str, job: dict[str, Any]) -> None:
    """The mount that path lies in decides; else the root."""
    for target, is_read_only in sorted(job["volumes"], key=lambda pair: len(pair[0]), reverse=True):
        if path == target or path.startswith(target + "/"):
            if is_read_only:
                raise Failure("invalid", "mounted volume is marked read-only")
            return
    if job["read_only"]:
        raise Failure("invalid", "container rootfs is marked read-only")


def _outlet(control: socket.socket) -> Outlet:
    (fd,), is_framed = _go(control)
    return Outlet(fd, framed=is_framed)


def _go(control: socket.socket) -> tuple[list[int], bool]:
    """The descriptors to write to or read from, and whether in HTTP chunks. Leaves if nobody wants it."""
    message, fds, _, _ = socket.recv_fds(control, 64, 2)
    if not message or not fds:
        os._exit(0)
    return fds, message == b"framed"


def _say(control: socket.socket, answer: dict[str, Any]) -> None:
    control.sendall(json.dumps(answer).encode())


_ACTS = {"names": _names, "head": _head, "get": _get, "put": _put, "export": _export}
