"""The extraction helper: a small process, apart from the engine, that forks one confined child per layer.

    engine ── SEQPACKET: job (JSON) + [blob, result pipe] ──► helper ── fork ──► child: chroot, inflate, untar
       ▲                                                                           │
       └────────────────────── result pipe: one JSON document, then the end ◄──────┘

Another kind of job copies files between two directories (gather.py), with no archive in between.
The rule: nothing is imported after the chroot, and no descriptor of a directory outside is open in a child
that unpacks.
It is started without `site`; the engine hands it its module path. It leaves when the engine does, or when
idle.
"""

import contextlib
import hashlib
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from skiff.engine.storage import compression
from skiff.engine.storage.chunks import Chunks
from skiff.engine.storage.gather import Gathering
from skiff.engine.storage.tarnotes import Noting
from skiff.engine.storage.tarstream import Source
from skiff.engine.storage.untar import NeedsParents, Untar
from skiff.errors import HostileArchive

Read = Callable[[int], bytes]
LARGEST_JOB = 1 << 16
_SMALL = 1 << 16  # below this a thread costs more than it gains
_LARGE = 1 << 18
_DEPTH = 8  # chunks between two threads
_MOST_FILES = 5

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x4000 | 0x40000


def main(fd: int, idle_seconds: float) -> None:
    """Serve jobs from the socket fd until it ends or nothing came for so long."""
    # A path of 4095 bytes has 2048 parts, and each may take several calls.
    sys.setrecursionlimit(20_000)
    door = socket.socket(fileno=fd)
    children: set[int] = set()
    while True:
        is_idle = not children
        readable, _, _ = select.select([door], [], [], idle_seconds if is_idle else 0.2)
        _reap(children)
        if not readable:
            if is_idle:
                return
            continue
        message, fds, _, _ = socket.recv_fds(door, LARGEST_JOB, _MOST_FILES)
        if not message:
            # The engine has ended, perhaps killed: the next one must not find anybody writing.
            for child in children:
                os.kill(child, signal.SIGKILL)
            return
        blob, result, *more = fds
        child = os.fork()
        if child == 0:
            door.close()
            code = 1
            try:
                _answer(result, _job(json.loads(message), blob, more))
                code = 0
            finally:
                os._exit(code)
        children.add(child)
        for one in fds:
            os.close(one)


def _reap(children: set[int]) -> None:
    for child in list(children):
        if os.waitpid(child, os.WNOHANG)[0]:
            children.discard(child)


def _answer(fd: int, answer: dict[str, Any]) -> None:
    data = memoryview(json.dumps(answer).encode())
    while data:
        data = data[os.write(fd, data) :]


def _job(job: dict[str, Any], blob: int, more: Sequence[int] = ()) -> dict[str, Any]:
    """Run one job; errors become part of the answer. more: of a framed body a file with its beginning, else
    perhaps a file for the archive's headers.
    """
    if job.get("gathers"):
        return _told(lambda: _gather(blob, *more))
    if not job.get("framed"):
        return _done(job, lambda size: os.read(blob, size), os.fstat(blob).st_size, more)
    # large pieces: fewer files lie across two of them
    body = Chunks(blob, os.pread(more[0], os.fstat(more[0]).st_size, 0), piece=_LARGE)
    answer = _done(job, body.read, 0)
    return answer | {"ended": body.drain()}


def _done(job: dict[str, Any], read: Read, size: int, notes: Sequence[int] = ()) -> dict[str, Any]:
    """size: of all that can be read, 0 when that is not known."""
    if job["directory"] is None:
        return _told(lambda: _measure(read))
    return _told(lambda: _extract(job, read, size, notes))


def _told(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except NeedsParents as error:
        return {"error": "parents", "message": str(error)}
    except HostileArchive as error:
        return {"error": "hostile", "message": str(error)}
    except OSError as error:
        return {"error": "os", "errno": error.errno or 0, "message": error.strerror or str(error)}


def _gather(source: int, target: int, items: int, waiting: int) -> dict[str, Any]:
    """items: a file with the list of them, as JSON."""
    gathering = Gathering(source, target, waiting)
    gathering.run(json.loads(os.pread(items, os.fstat(items).st_size, 0)))
    return {"sums": gathering.sums}


def _extract(job: dict[str, Any], read: Read, size: int, notes: Sequence[int]) -> dict[str, Any]:
    # a pipe cannot be read twice: what was read to tell the compression is handed out again
    head = [_head(read)]
    kind = compression.detect(head[0])
    compression.prepare(kind)
    keep_owners = _confine(job["directory"], job["overlay"], job["base"])
    untar = Untar(
        whiteouts=job["whiteouts"],
        overlay_xattrs=b"trusted.overlay." if keep_owners else b"user.overlay.",
        keep_owners=keep_owners,
        max_bytes=job["max_bytes"],
        digests=job.get("digests", False),
    )
    digest = hashlib.sha256()
    plain = compression.decompressed(lambda size: head.pop() if head else read(size))
    is_hashed = job.get("hashed", True) and not job.get("digests")  # of files or by others: not of the whole
    plain = _hashed(plain, digest.update) if is_hashed else plain
    is_work = is_hashed or kind != "none"  # enough for a thread, unless there is little of it
    with _ahead(plain) if is_work and not 0 < size <= _SMALL else contextlib.nullcontext(plain) as chunks:
        untar.run(Noting(chunks, notes[0]) if notes else Source(chunks))
    return {
        "diff_id": f"sha256:{digest.hexdigest()}" if is_hashed else "",
        "size": untar.written + untar.linked,  # as Docker counts a layer
        "entries": untar.entries,
        "implied": [path.decode("latin-1") for path in untar.implied],  # JSON takes no arbitrary bytes,
        "sums": {path.decode("latin-1"): digest for path, digest in untar.sums.items()},
    }


def _head(read: Read) -> bytes:
    """The first bytes, enough to tell a compression by, or all there are."""
    head = b""
    while len(head) < 16 and (more := read(_SMALL)):
        head += more
    return head


def _measure(read: Read) -> dict[str, Any]:
    digest = hashlib.sha256()
    size = 0
    for chunk in compression.decompressed(read):
        digest.update(chunk)
        size += len(chunk)
    return {"diff_id": f"sha256:{digest.hexdigest()}", "size": size, "entries": 0, "implied": []}


def _confine(directory: str, overlay: str | None, base: str) -> bool:
    """Make directory the root of this process; whether owners and devices can be made.

    overlay: options of an overlay to mount on directory first, seen by this process only; paths relative to
    base.
    """
    privileged = os.geteuid() == 0
    if not privileged:
        owner, group = os.geteuid(), os.getegid()
        _libc("unshare", CLONE_NEWUSER | (CLONE_NEWNS if overlay else 0))
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {owner} 1")
        _write("/proc/self/gid_map", f"0 {group} 1")
    elif overlay:
        _libc("unshare", CLONE_NEWNS)
    if overlay:
        os.chdir(base)
        _libc("mount", None, b"/", None, MS_REC_PRIVATE, None)
        _libc("mount", b"overlay", os.fsencode(directory), b"overlay", 0, os.fsencode(overlay))
    os.chdir(directory)
    os.chroot(".")
    os.chdir("/")
    return privileged


def _libc(name: str, *args: Any) -> None:
    import ctypes  # only the rare jobs need it, and they come here before the chroot

    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*[ctypes.c_ulong(a) if isinstance(a, int) else a for a in args]):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _hashed(chunks: Iterator[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk


@contextlib.contextmanager
def _ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """The same chunks, made in a thread of their own; its error is raised where they are read."""
    ready: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(_DEPTH)
    stopped = False

    def produce() -> None:
        try:
            for chunk in chunks:
                room.acquire()
                if stopped:
                    return
                ready.put(chunk)
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    def consume() -> Iterator[bytes]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item

    threading.Thread(target=produce, daemon=True).start()
    try:
        yield consume()
    finally:
        stopped = True
        room.release()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
