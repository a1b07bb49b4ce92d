"""One command of one caller, in a process that was there before."""

import _signal  # type: ignore[import-not-found]
import _socket
import fcntl
import gc
import os
import select
import struct
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

from skiff.cli import main as command_line
from skiff.cli.preloaded.front import PACKET
from skiff.cli.preloaded.place import ABOVE, Place, Refused
from skiff.linux.libc import prctl

_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid: struct ucred, unix(7)
_DEADLY: Final = (
    *(_signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2),
    *(_signal.SIGALRM, _signal.SIGTERM, _signal.SIGXCPU),
)
_F_SETSIG: Final = 10
_PR_SET_PDEATHSIG: Final = 1


class Worker:
    """In a fresh child of the server. program: the file that a caller has to be about to run.

    What it will do for a caller it does for itself first, while nobody waits: most of the pages that it will
    write to are its own by then.
    """

    def __init__(self, program: str, server: int) -> None:
        """server: its process id; without it we are not wanted."""
        prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
        if os.getppid() != server:
            os._exit(0)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        gc.enable()
        self._program = os.stat(program)
        self._interpreters = os.stat(os.path.dirname(sys.executable))
        self._own = Place(os.getpid())
        self._own.take(self._own)
        Place(server)

    def accept(self, listening: _socket.socket) -> _socket.socket:
        """The next caller. From here on this process does not end with the server."""
        door, _ = listening._accept()  # type: ignore[attr-defined]
        prctl(_PR_SET_PDEATHSIG, 0)
        listening.close()
        moved = fcntl.fcntl(door, fcntl.F_DUPFD_CLOEXEC, ABOVE)
        os.close(door)
        return _socket.socket(fileno=moved)

    def work(self, door: _socket.socket) -> NoReturn:
        """Run the caller's command and tell how it ended, or hang up and leave it to him."""
        try:
            caller = _caller(door)
            arguments = self._become(caller, door)
            for word in (caller, os.getpid()):
                door.send(PACKET.pack(word))
        except (Refused, OSError):
            os._exit(0)
        _end_with(door)
        for number in _DEADLY:
            if _signal.getsignal(number) == _signal.SIG_DFL:
                _signal.signal(number, lambda number, _: _leave(door, -number))
        _leave(door, _run(arguments))

    def _become(self, caller: int, door: _socket.socket) -> list[str]:
        """As the caller would be in his own process; the arguments of his command. Refused, OSError."""
        theirs = Place(caller)
        if _has_gone(door):  # then the number may have been another's
            raise Refused("it has gone")
        arguments = self._arguments(theirs.arguments)
        theirs.take(self._own)
        return arguments

    def _arguments(self, words: Sequence[bytes]) -> list[str]:
        """Those behind FRONT INTERPRETER -IS PROGRAM. Refused for another program."""
        texts = [os.fsdecode(word) for word in words]
        if len(texts) < 4 or texts[2] != "-IS":
            raise Refused("it starts something else")
        _, interpreter, _, program, *arguments = texts
        ours = os.path.samestat(os.stat(program), self._program) and os.path.samestat(
            os.stat(os.path.dirname(interpreter)), self._interpreters
        )
        if not ours:
            raise Refused("another installation")
        sys.argv = [program, *arguments]
        return arguments


def _caller(door: _socket.socket) -> int:
    """The process at the other end. Refused."""
    credentials = door.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    if pid == 0 or uid != os.geteuid():
        raise Refused("another user, or out of sight")
    return int(pid)


def _leave(door: _socket.socket, code: int) -> NoReturn:
    """Tell the exit code, or as a negative number the signal to die by."""
    for word in (max(-code, 0), code & 0xFF if code >= 0 else 128 - code):
        door.send(PACKET.pack(word))
    os._exit(0)


def _end_with(door: _socket.socket) -> None:
    """The kernel kills us when the other end has gone: then the caller was killed himself."""
    fcntl.fcntl(door, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(door, _F_SETSIG, _signal.SIGKILL)
    fcntl.fcntl(door, fcntl.F_SETFL, os.O_ASYNC)
    if _has_gone(door):
        os._exit(0)


def _has_gone(door: _socket.socket) -> bool:
    poll = select.poll()
    poll.register(door, select.POLLHUP)
    return bool(poll.poll(0))


def _run(arguments: Sequence[str]) -> int:
    """See main.settle; an error that nobody expected ends with a traceback, as an interpreter would."""
    try:
        return command_line.settle(command_line.main(arguments))
    except Exception:
        traceback.print_exc()
        return command_line.settle(1)
