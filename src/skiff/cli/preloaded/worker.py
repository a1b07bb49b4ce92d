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
from skiff.cli.preloaded.front import ACCEPTED, PACKET
from skiff.cli.preloaded.place import ABOVE, Place, Refused
from skiff.linux.libc import prctl

_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid: struct ucred, unix(7)
_F_SETSIG: Final = 10
_PR_SET_PDEATHSIG: Final = 1


class Worker:
    """In a fresh child of the server. program: the file that a caller has to be about to run.

    What it will do for a caller it does for itself first, while nobody waits: most of the pages that it will
    write to are its own by then. No signal reaches it before the command can be told of it.
    """

    def __init__(self, program: str, server: int) -> None:
        """server: its process id; without it we are not wanted."""
        prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
        if os.getppid() != server:
            os._exit(0)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
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
            (blocked,) = PACKET.unpack(door.recv(PACKET.size))
            arguments = self._become(door)
            for word in (ACCEPTED, os.getpid()):
                door.send(PACKET.pack(word))
        except (Refused, OSError, struct.error):
            hang_up(door)
        _end_with(door)
        code = _run(arguments, {number for number in _signal.valid_signals() if blocked >> number - 1 & 1})
        # Nothing of the caller's is held any more when he hears it.
        os.closerange(0, ABOVE)
        os.chdir("/")
        tell_end(door, signal=max(-code, 0), code=code & 0xFF if code >= 0 else 128 - code)
        os._exit(0)

    def _become(self, door: _socket.socket) -> list[str]:
        """As the caller would be in his own process; the arguments of his command. Refused, OSError."""
        credentials = door.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        if pid == 0 or uid != os.geteuid():
            raise Refused("another user, or out of sight")
        theirs = Place(pid)
        if _has_gone(door):  # then the number may have been another's
            raise Refused("it has gone")
        theirs.take(self._own)
        return self._arguments(theirs.arguments)

    def _arguments(self, words: Sequence[bytes]) -> list[str]:
        """Those behind FRONT INTERPRETER -IS PROGRAM, seen from the caller's place. Refused for another
        program.
        """
        texts = [os.fsdecode(word) for word in words]
        if len(texts) < 4 or texts[2] != "-IS":
            raise Refused("it starts something else")
        _, interpreter, _, program, *arguments = texts
        is_ours = os.path.samestat(os.stat(program), self._program) and os.path.samestat(
            os.stat(os.path.dirname(interpreter)), self._interpreters
        )
        if not is_ours:
            raise Refused("another installation")
        sys.argv = [program, *arguments]
        return arguments


def tell_end(door: _socket.socket, *, signal: int, code: int) -> None:
    """The last words to a front: the signal to die by, 0 for none, and the exit code. OSError."""
    for word in (signal, code):
        door.send(PACKET.pack(word))


def hang_up(door: _socket.socket) -> NoReturn:
    """At once, whoever else still has the connection."""
    try:
        door.shutdown(_socket.SHUT_RDWR)
    finally:
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


def _run(arguments: Sequence[str], blocked: set[int]) -> int:
    """See main.settle. What nobody caught ends as an interpreter would end it."""
    try:
        try:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)  # what has come is delivered here
            return command_line.settle(command_line.main(arguments))
        except SystemExit as wish:
            return command_line.settle(wish.code if isinstance(wish.code, int) else 1)
        except Exception:
            traceback.print_exc()
            return command_line.settle(1)
    except KeyboardInterrupt:
        return -int(_signal.SIGINT)
