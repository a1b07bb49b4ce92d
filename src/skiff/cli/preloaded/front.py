"""The front: what a shell starts instead of an interpreter when the command line is loaded already. Pure.

    FRONT INTERPRETER ARGUMENTS…   finds a worker at its socket: stands in for it, sends signals on, and ends
                                   as it ends
                                   finds none, or is refused: becomes INTERPRETER ARGUMENTS…

It is an executable of our own making (linux/executable.py), a program of system calls. This file has both its
program and the protocol, packets of 8 bytes, little-endian:

    front → worker   the signals that the caller had blocked
    worker → front   ACCEPTED; the worker's process id; at the end the signal to die by or 0, the exit code
    end of file      at first: refused. Later: the worker was killed, and so is the front

SIGIO tells that a packet has come, so that one call waits for packets and signals alike.
"""

import struct
from errno import EAGAIN, EINTR
from typing import Final

from skiff.linux.calls import ANY_ERROR, Program, Result, errors

CONNECTION: Final = 1000  # a descriptor's number that nobody else is likely to have
ACCEPTED: Final = CONNECTION  # it is there, and so the call that asks whether this was an answer succeeds
PACKET: Final = struct.Struct("<q")

_AF_UNIX, _SOCK_SEQPACKET, _SOCK_CLOEXEC = 1, 5, 0o2000000
_O_CLOEXEC: Final = 0o2000000
_O_ASYNC: Final = 0o20000
_F_GETFD, _F_SETFL, _F_SETOWN = 1, 4, 8
_MSG_DONTWAIT: Final = 0x40
_MSG_NOSIGNAL: Final = 0x4000
_SIG_BLOCK, _SIG_SETMASK = 0, 2
_SET: Final = 8  # bytes of a set of signals
_SIGKILL: Final = 9
_NOBODY: Final = 0x7FFFFFFF  # above every process id; proc(5), pid_max
# Not sent on: what cannot wait, faults of our own, and stopping, which is between the shell and us.
_OURS: Final = {4, 5, 7, 8, _SIGKILL, 11, 17, 18, 19, 20, 21, 22, 31}
SENT_ON: Final = tuple(number for number in range(1, 65) if number not in _OURS)
_ONLY_SIGIO: Final = struct.pack("<Q", 1 << 29 - 1)
_MASK: Final = struct.pack("<Q", sum(1 << number - 1 for number in SENT_ON))


def front(numbers: dict[str, int], base: int, socket: bytes) -> tuple[Program, Result]:
    """The program, and its call of execve, whose arguments are to be the front's own from the second on.

    numbers, base: see Program. socket: the path of the server's; ValueError beyond 107 bytes.
    """
    if len(socket) > 107:
        raise ValueError("the path of a socket has at most 107 bytes; unix(7)")
    program = Program(numbers, base)
    unblocked = program.room(_SET)
    program.call("rt_sigprocmask", _SIG_BLOCK, _MASK, unblocked, _SET)
    refused = _find_worker(program, struct.pack("<H", _AF_UNIX) + socket + b"\0", unblocked)
    _stand_in(program, unblocked)
    for call in refused:
        program.resume(call)
    program.call("rt_sigprocmask", _SIG_SETMASK, unblocked, None, _SET)
    execve = program.call("execve", None, None, None, may_fail=ANY_ERROR)
    program.call("exit_group", 127)
    return program, execve


def _find_worker(program: Program, address: bytes, unblocked: int) -> list[Result]:
    """Connect and wait for a worker. The calls after whose failure there is none."""
    call = program.call
    free = call("fcntl", CONNECTION, _F_GETFD, may_fail=ANY_ERROR)
    taken = program.skip()
    program.resume(free)
    socket = call("socket", _AF_UNIX, _SOCK_SEQPACKET | _SOCK_CLOEXEC, 0, may_fail=ANY_ERROR)
    moved = call("dup3", socket, CONNECTION, _O_CLOEXEC, may_fail=ANY_ERROR)
    call("close", socket)
    connected = call("connect", CONNECTION, address, len(address), may_fail=ANY_ERROR)
    told = call("sendto", CONNECTION, unblocked, PACKET.size, _MSG_NOSIGNAL, None, 0, may_fail=ANY_ERROR)
    answered = _receive(program, may_fail=ANY_ERROR)
    accepted = call("fcntl", -1, _F_GETFD, may_fail=ANY_ERROR)
    program.point(answered, 1, accepted, 0)
    return [taken, socket, moved, connected, told, answered, accepted]


def _stand_in(program: Program, unblocked: int) -> None:
    """Signals to the worker, its end from it."""
    call = program.call
    told = _receive(program)
    own = call("getpid")
    call("fcntl", CONNECTION, _F_SETOWN, own)
    call("fcntl", CONNECTION, _F_SETFL, _O_ASYNC)
    going_on = _receive(program, flags=_MSG_DONTWAIT, may_fail=errors(EAGAIN))
    ending = _receive(program)
    call("fcntl", CONNECTION, _F_SETFL, 0)
    call("rt_sigtimedwait", _ONLY_SIGIO, None, bytes(16), _SET, may_fail=errors(EAGAIN))
    call("rt_sigprocmask", _SIG_SETMASK, unblocked, None, _SET)
    die = call("kill", own, _SIGKILL)
    leave = call("exit_group", 128 + _SIGKILL)
    program.resume(going_on)
    waiting = call("rt_sigtimedwait", _MASK, None, None, _SET, may_fail=errors(EINTR))
    program.go_back(waiting, waiting)
    alive = _receive(program, flags=_MSG_DONTWAIT, may_fail=errors(EAGAIN))
    program.go_back(program.skip(), ending)
    program.resume(alive)
    send_on = call("kill", _NOBODY, waiting, may_fail=ANY_ERROR)
    program.go_back(send_on, waiting)
    program.go_back(program.skip(), waiting)
    program.point(told, 1, send_on, 0)
    program.point(going_on, 1, die, 1)
    program.point(alive, 1, die, 1)
    program.point(ending, 1, leave, 0)


def _receive(program: Program, *, flags: int = 0, may_fail: int = 0) -> Result:
    """One packet, to where the second argument will point; nothing at the end of file."""
    return program.call("recvfrom", CONNECTION, None, PACKET.size, flags, None, None, may_fail=may_fail)
