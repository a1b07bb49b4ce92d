"""The engine's end of the extraction helper: starts it, hands it jobs, reads results. Blocking, from any
thread.
"""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.storage.gather import Item
from skiff.engine.storage.untar import Whiteouts
from skiff.errors import HostileArchive, SkiffError

IDLE_SECONDS = 10.0
_START = """import sys
sys.path[:] = sys.argv[3:]
from skiff.engine.storage import extract
extract.main(int(sys.argv[1]), float(sys.argv[2]))
"""


class Job(Struct, frozen=True):
    """directory: where to extract; None: only measure. overlay: mount it there first, options relative to
    base. digests: tell the SHA-256 of every file instead of that of the archive. hashed: take the archive's
    at all; somebody else may have done so. framed: it comes in HTTP's chunks.
    """

    directory: str | None
    whiteouts: Whiteouts = "overlay"
    max_bytes: int | None = None
    overlay: str | None = None
    base: str = "/"
    digests: bool = False
    hashed: bool = True
    framed: bool = False


class GatherJob(Struct, frozen=True):
    """Files out of another directory: gather.py."""

    gathers: bool = True


class Result(Struct, frozen=True):
    """What the helper answers; error is empty when all went well. ended: a framed body was read exactly to
    its end.
    """

    diff_id: str = ""
    size: int = 0
    entries: int = 0
    implied: tuple[str, ...] = ()
    sums: dict[str, str] = {}
    error: str = ""
    errno: int = 0
    message: str = ""
    ended: bool = False


class NeedsMerge(Exception):
    """The layer can only be extracted on its parents."""


class Extractor:
    """One helper process, started when needed; it leaves after idle_seconds without work."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle = idle_seconds
        self._lock = threading.Lock()
        self._helper: _Helper | None = None

    def start(self) -> None:
        with self._lock:
            self._started()

    def run(self, job: Job, blob: int, notes: int | None = None, *, early: int | None = None) -> Result:
        """Do one job with the bytes of blob, perhaps a pipe, from its start; several threads may at once.

        notes: a file that gets what the archive holds beside the contents of files (tarnotes.py), and nothing
        else. early: a file with the beginning of a framed body, whose rest is in blob.
        Raises HostileArchive, NeedsMerge, OSError.
        """
        return self._done(job, [file for file in (blob, early, notes) if file is not None], notes)

    def gather(self, source: int, target: int, items: Sequence[Item], waiting: int) -> Mapping[str, str]:
        """Copy files of the directory source into target; their SHA-256 by path.

        items: directories before what is in them. waiting: a socket; it ends early when its other end has
        gone. Raises OSError.
        """
        spelled = [(kind, _spelled(path), *rest, _spelled(link)) for kind, path, *rest, link in items]
        with open(os.memfd_create("items", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(msgspec.json.encode(spelled))
            return self._done(GatherJob(), [source, target, file.fileno(), waiting]).sums

    def _done(self, job: Job | GatherJob, files: list[int], notes: int | None = None) -> Result:
        for _ in range(3):
            if notes is not None:  # an attempt that was killed may have written some
                os.lseek(notes, 0, os.SEEK_SET)
                os.ftruncate(notes, 0)
            answer, helper = self._ask(job, files)
            if answer:
                return _judged(msgspec.json.decode(answer, type=Result))
            if not _ended(helper):
                break
            # the helper left for idleness while our job was on its way; the next one is new
        raise SkiffError("the extraction of a layer was killed, perhaps for lack of memory")

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _ask(self, job: Job | GatherJob, files: list[int]) -> tuple[bytes, "_Helper"]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with open(reader, "rb", buffering=0) as result:
            try:
                if stat.S_ISREG(os.fstat(files[0]).st_mode):
                    os.lseek(files[0], 0, os.SEEK_SET)
                helper = self._send(msgspec.json.encode(job), [files[0], writer, *files[1:]])
            finally:
                os.close(writer)
            return result.readall(), helper

    def _send(self, message: bytes, fds: list[int]) -> "_Helper":
        with self._lock:
            helper = self._started()
            try:
                socket.send_fds(helper.door, [message], fds)
            except (BrokenPipeError, ConnectionResetError):
                self._stop()
                helper = self._started()
                socket.send_fds(helper.door, [message], fds)
            return helper

    def _started(self) -> "_Helper":
        if self._helper is not None and self._helper.process.poll() is None:
            return self._helper
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-ISEc",
                    _START,
                    str(theirs.fileno()),
                    str(self._idle),
                    *filter(None, sys.path),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
            )
        self._helper = _Helper(ours, process)
        return self._helper

    def _stop(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.door.close()  # it leaves when its socket ends
            _ended(helper, patience=5.0)


class _Helper(NamedTuple):
    door: socket.socket
    process: subprocess.Popen[bytes]


def _ended(helper: _Helper, patience: float = 0.5) -> bool:
    try:
        helper.process.wait(patience)
    except subprocess.TimeoutExpired:
        return False
    return True


def _spelled(path: str) -> str:
    """A path for JSON, which takes no arbitrary bytes: each byte as the character of that number."""
    return os.fsencode(path).decode("latin-1")


def _judged(result: Result) -> Result:
    match result.error:
        case "":
            # the helper spells the bytes of a path as latin-1
            implied = tuple(os.fsdecode(path.encode("latin-1")) for path in result.implied)
            sums = {os.fsdecode(path.encode("latin-1")): digest for path, digest in result.sums.items()}
            return replace(result, implied=implied, sums=sums)
        case "hostile":
            raise HostileArchive(result.message)
        case "parents":
            raise NeedsMerge(result.message)
        case _:
            raise OSError(result.errno, result.message)
