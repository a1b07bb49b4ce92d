"""The command line, loaded: a worker waits for the next caller.

    packaging/skiff ──execve──► front ──connect──► worker ◄──fork── server
                                  ▲                takes the caller's place, runs the command
                                  └─ how it ended ─┘

An engine starts the server once a command line has called. It ends with the engine, after a while without a
call, and when a file that it was loaded from has changed. It has a socket, and beside each socket of the
engine a file with the front's path, where the shell script looks. The front itself lies in the data root,
since on many machines nothing can be executed below /run; it stays there, and then finds nobody. All of them
are for our own user alone.
"""

import _signal  # type: ignore[import-not-found]
import errno
import gc
import os
import resource
import select
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

import skiff
from skiff.cli.preloaded.front import front
from skiff.cli.preloaded.worker import Worker, hang_up, tell_end
from skiff.linux import executable as elf
from skiff.linux import fds, inotify, syscalls
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

    def __init__(self, address: str, executable: str, signs: Sequence[str]) -> None:
        """address: of the socket. executable: where the front is to be. signs: the files that name it.

        OSError, ValueError: here it cannot be.
        """
        _load()
        self._changed = inotify.watch(sum(_CHANGES), *_folders())  # not before: loading writes __pycache__
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.umask(0o177)
        _unlink(address)
        self._listening.bind(address)
        self._listening.listen(1024)
        architecture = syscalls.architecture()
        program, execve = front(syscalls.numbers(architecture), elf.DATA, os.fsencode(address))
        _write(executable, elf.executable(architecture, program.image(), execve), 0o700)
        if not os.access(executable, os.X_OK):
            raise PermissionError(errno.EACCES, "nothing can be executed there", executable)
        for path in signs:
            _write(path, os.fsencode(executable) + b"\n", 0o600)
        self._files = {path: _inode(path) for path in (address, *signs)}

    def serve(self, engine: int) -> None:
        """Until `engine`, a descriptor, is at its end, or there is nothing more to do."""
        told, tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        busy: dict[int, int] = {}  # pidfd of a worker → the connection with its front
        waiting = self._fork(tell)
        while True:
            ready = _readable(engine, self._changed, told.fileno(), waiting, *busy, patience=IDLE)
            for pidfd in ready & busy.keys():
                _see_off(pidfd, busy.pop(pidfd))
            if engine in ready or self._changed in ready or (not ready and not busy):
                return
            if told.fileno() in ready:
                _, (door,) = fds.recv_packet(told, 1)
                busy[waiting] = door
                waiting = self._fork(tell)
            elif waiting in ready:
                return

    def close(self) -> None:
        """Remove our files, unless another server has put its own there. Who has called and was not heard
        is hung up on.
        """
        for path, inode in self._files.items():
            if _inode(path) == inode:
                _unlink(path)
        self._listening.close()

    def _fork(self, tell: socket.socket) -> int:
        """A worker that waits; its pidfd. When it has a caller it tells so, with the connection."""
        own = os.getpid()
        pid, pidfd = clone()
        if pid == 0:
            self._work(tell, own)
        return pidfd

    def _work(self, tell: socket.socket, own: int) -> NoReturn:
        try:
            worker = Worker(_PROGRAM, own)
            door = worker.accept(self._listening)
            fds.send_packet(tell, b"c", [door.fileno()])
            if _readable(self._changed):
                hang_up(door)
            worker.work(door)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)


def _see_off(pidfd: int, fd: int) -> None:
    """A worker has ended. If by a signal, he could not tell his front."""
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    with socket.socket(fileno=fd) as door:
        if ended is not None and ended.si_code != os.CLD_EXITED:
            try:
                tell_end(door, signal=ended.si_status, code=128 + ended.si_status)
            except OSError:
                pass  # that was why it was killed


def _readable(*fds: int, patience: float = 0) -> set[int]:
    """Those of them, after so many seconds at the latest."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(patience * 1000)}


def _folders() -> list[str]:
    """What has been loaded from."""
    modules = (module for name, module in sys.modules.items() if name.partition(".")[0] == "skiff")
    return sorted({os.path.dirname(str(module.__file__)) for module in modules})


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


def _write(path: str, content: bytes, mode: int) -> None:
    """A file that is whole from the moment that it is there."""
    part = f"{path}.{os.getpid()}"
    _unlink(part)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, mode)
    os.rename(part, path)


def _load() -> None:
    """Every module of the command line but the rare ones."""
    for room in ("cli", "client"):
        for entry in sorted(os.listdir(f"{_ROOT}/{room}")):
            name = entry.removesuffix(".py")
            if name != entry and not name.startswith("__") and name not in _RARE:
                __import__(f"skiff.{room}.{name}")


def _reset_signals() -> None:
    """As in an interpreter whose parent has ignored and blocked nothing; the engine's own may have."""
    for number in _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGINT}:
        is_ignored = number in (_signal.SIGPIPE, _signal.SIGXFSZ)
        _signal.signal(number, _signal.SIG_IGN if is_ignored else _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def main() -> None:
    """argv: the paths of the socket, the front, the signs. Standard input: a pipe whose other end the engine
    has. Exit status 1 where it cannot be.
    """
    gc.disable()
    address, executable, *signs = sys.argv[1:]
    os.setsid()
    # The next worker is made when nobody else has anything to do: not before the one that just woke us.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _reset_signals()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        server = Server(address, executable, signs)
    except (OSError, ValueError) as error:
        sys.exit(f"skiffd: the command line is not kept loaded: {error}")
    gc.freeze()
    try:
        server.serve(0)
    finally:
        server.close()
