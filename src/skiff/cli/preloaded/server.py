"""The command line, loaded: a worker waits for the next caller.

    packaging/skiff ──execve──► front ──connect──► worker ◄──fork── server
                                  ▲                takes the caller's place, runs the command
                                  └─ how it ended ─┘

An engine starts the server once a command line has called. It ends with the engine, after a while without a
call, and when a file that it was loaded from has changed. It has a socket, and a front beside each socket of
the engine, where the shell script looks; all of them for our own user alone.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import os
import resource
import select
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

import skiff
from skiff.cli.preloaded.front import front
from skiff.cli.preloaded.worker import Worker
from skiff.linux import executable, inotify, syscalls
from skiff.linux.processes import clone

IDLE: Final = 600.0  # seconds
_ROOT: Final = os.path.dirname(str(skiff.__file__))
_PROGRAM: Final = f"{_ROOT}/cli/__main__.py"
_RARE: Final = {"build_agents", "check", "tls"}  # they bring threads, ctypes, OpenSSL: loaded when needed
_CHANGES: Final = (
    *(inotify.IN_MODIFY, inotify.IN_MOVED_TO, inotify.IN_CREATE),
    *(inotify.IN_DELETE, inotify.IN_DELETE_SELF, inotify.IN_MOVE_SELF),
)


class Server:
    """It listens from the start."""

    def __init__(self, address: str, fronts: Sequence[str]) -> None:
        """address: of the socket. fronts: the paths of their files. OSError."""
        self._changed = inotify.watch(sum(_CHANGES), *_folders())
        _load()
        self._listening = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        os.umask(0o177)
        _unlink(address)
        self._listening.bind(address)
        self._listening.listen(1024)
        architecture = syscalls.architecture()
        program, execve = front(syscalls.numbers(architecture), executable.DATA, os.fsencode(address))
        content = executable.executable(architecture, program.image(), execve)
        for path in fronts:
            _write(path, content)
        self._files = {path: _inode(path) for path in (address, *fronts)}

    def serve(self, engine: int) -> None:
        """Until `engine`, a descriptor, is at its end, or there is nothing more to do."""
        called, tell = os.pipe2(os.O_CLOEXEC)
        own = os.getpid()
        while True:
            pid, waiting = clone()
            if pid == 0:
                self._work(tell, own)
            try:
                ready = _readable(engine, self._changed, called, waiting, patience=IDLE)
            finally:
                os.close(waiting)
            if called not in ready or engine in ready or self._changed in ready:
                return
            os.read(called, 1)

    def close(self) -> None:
        """Remove our files, unless another server has put its own there. Who has called and was not heard
        is hung up on.
        """
        for path, inode in self._files.items():
            if _inode(path) == inode:
                _unlink(path)
        self._listening.close()

    def _work(self, tell: int, own: int) -> NoReturn:
        try:
            worker = Worker(_PROGRAM, own)
            door = worker.accept(self._listening)
            os.write(tell, b"c")
            if not _readable(self._changed):
                worker.work(door)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)


def _readable(*fds: int, patience: float = 0) -> set[int]:
    """Those of them, after so many seconds at the latest."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(patience * 1000)}


def _folders() -> list[str]:
    """What the command line is loaded from."""
    return [folder for folder, _, files in os.walk(_ROOT) if "__init__.py" in files]


def _inode(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    return about.st_dev, about.st_ino


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _write(path: str, content: bytes) -> None:
    """An executable, whole from the moment that it is there."""
    part = f"{path}.{os.getpid()}"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, 0o700)
    os.rename(part, path)


def _load() -> None:
    """Every module of the command line but the rare ones."""
    for room in ("cli", "client"):
        for entry in sorted(os.listdir(f"{_ROOT}/{room}")):
            name = entry.removesuffix(".py")
            if name != entry and not name.startswith("__") and name not in _RARE:
                __import__(f"skiff.{room}.{name}")


def main() -> None:
    """argv: the socket's path, the fronts'. Standard input: a pipe whose other end the engine has."""
    gc.disable()
    address, *fronts = sys.argv[1:]
    os.setsid()
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nobody waits for workers
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(address, fronts)
    gc.freeze()
    try:
        server.serve(0)
    finally:
        server.close()
