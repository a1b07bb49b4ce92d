"""The engine's end of the extraction helper: starts it, hands it jobs, reads results. Blocking, from any
thread.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from skiff.engine.storage.untar import Whiteouts
from skiff.errors import HostileArchive, SkiffError

_START = """import sys
sys.path[:] = sys.argv[2:]
from skiff.engine.storage import extract
extract.main(int(sys.argv[1]))
"""


class Job(Struct, frozen=True):
    """directory: where to extract; None: only measure. overlay: mount it there first, options relative to
    base.
    """

    directory: str | None
    whiteouts: Whiteouts = "overlay"
    max_bytes: int | None = None
    overlay: str | None = None
    base: str = "/"


class Result(Struct, frozen=True):
    """What the helper answers; error is empty when all went well."""

    diff_id: str = ""
    size: int = 0
    entries: int = 0
    implied: tuple[str, ...] = ()
    error: str = ""
    errno: int = 0
    message: str = ""


class NeedsMerge(Exception):
    """The layer can only be extracted on its parents."""


class Extractor:
    """One helper process, started when needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._door: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._lock:
            self._started()

    def run(self, job: Job, blob: int) -> Result:
        """Do one job with the bytes of blob from its start; several threads may at once.

        Raises HostileArchive, NeedsMerge, OSError.
        """
        for _ in range(2):
            answer = self._ask(job, blob)
            if answer:
                return _judged(msgspec.json.decode(answer, type=Result))
            # the helper left for idleness while our job was on its way; the next one is new
        raise SkiffError("the extraction helper ended without an answer")

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _ask(self, job: Job, blob: int) -> bytes:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with open(reader, "rb", buffering=0) as result:
            try:
                os.lseek(blob, 0, os.SEEK_SET)
                self._send(msgspec.json.encode(job), [blob, writer])
            finally:
                os.close(writer)
            return result.readall()

    def _send(self, message: bytes, fds: list[int]) -> None:
        with self._lock:
            try:
                socket.send_fds(self._started(), [message], fds)
            except (BrokenPipeError, ConnectionResetError):
                self._stop()
                socket.send_fds(self._started(), [message], fds)

    def _started(self) -> socket.socket:
        if self._door is not None and self._process is not None and self._process.poll() is None:
            return self._door
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-ISEc", _START, str(theirs.fileno()), *filter(None, sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
            )
        self._door = ours
        return ours

    def _stop(self) -> None:
        door, self._door = self._door, None
        process, self._process = self._process, None
        if door is not None:
            door.close()
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)  # it leaves when its socket ends


def _judged(result: Result) -> Result:
    match result.error:
        case "":
            # the helper spells the bytes of a path as latin-1
            implied = tuple(os.fsdecode(path.encode("latin-1")) for path in result.implied)
            return replace(result, implied=implied)
        case "hostile":
            raise HostileArchive(result.message)
        case "parents":
            raise NeedsMerge(result.message)
        case _:
            raise OSError(result.errno, result.message)
