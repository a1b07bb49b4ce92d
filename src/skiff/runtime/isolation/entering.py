"""The last steps before a container's program, as calls: streams, directory, identity, PATH, execve. Pure.

What program.py and identity.py do in an interpreter, a spawned child does by these; in the same order, for
the same reasons. They cover what nearly every container asks for. Whatever else it may be, and whatever
fails, is for the interpreter: Unplanned, or a call whose failure ends the child.
"""

import errno
import struct
from collections.abc import Iterator
from typing import Final

from skiff.linux import capabilities, fds, keyring, processes, safepath, seccomp
from skiff.linux.calls import ANY_ERROR, Argument, Counted, Pointers, Program, Result, errors
from skiff.linux.libc import AT_FDCWD
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Capabilities, Process
from skiff.runtime.isolation.identity import DEFAULT_UMASK, RLIMITS, grant, limit_value

_LAST_FD: Final = (1 << 32) - 1
_X_OK: Final = 1
_NOT_THIS_ONE: Final = errors(errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_FORBIDDEN: Final = errors(errno.EACCES, errno.EPERM)


class Unplanned(Exception):
    """An interpreter has to do it."""


def settle(program: Program, tasks: tuple[Argument, ...]) -> None:
    """Just born: nothing left of what our parent was, and into the groups (see cgroups.join)."""
    for number in processes.OFTEN_IGNORED:
        program.call("rt_sigaction", number, processes.DEFAULT_ACTION, None, 8)
    program.call("rt_sigprocmask", processes.SIG_SETMASK, bytes(8), None, 8)
    program.call("setsid")
    for fd in tasks:
        program.call("write", fd, b"0", 1)


def take_streams(program: Program, streams: tuple[Argument, ...]) -> None:
    """Make these 0, 1 and 2; none of them may be one of those."""
    for number, fd in enumerate(streams):
        program.call("dup3", fd, number, 0)


def enter(program: Program, process: Process, filter: Filter | None, *, have: int) -> tuple[Result, ...]:
    """Take on directory and identity, then become the program: the calls of execve. Unplanned.

    have: the capabilities that are permitted to whoever spawns.
    """
    _refuse(process)
    program.call("close_range", 3, _LAST_FD, fds.CLOSE_RANGE_CLOEXEC)
    # By descriptor, and by no link of /proc: a directory of the host's may be open still.
    how = safepath.how(fds.O_PATH | fds.O_DIRECTORY, safepath.RESOLVE_NO_MAGICLINKS)
    directory = program.call("openat2", AT_FDCWD, text(process.cwd), how, len(how))
    program.call("fchdir", directory)
    _identity(program, process, filter, have)
    return tuple(_execute(program, process))


def environment(process: Process) -> dict[str, str]:
    """Its variables: the last of a name counts, and there is always a HOME."""
    variables = dict(entry.partition("=")[::2] for entry in process.env if "=" in entry)
    variables.setdefault("HOME", "/")
    return variables


def candidates(name: str, path: str) -> Iterator[str]:
    """Where a program of that name, which has no slash, may be, for this PATH."""
    for directory in path.split(":") if path else ():
        yield f"{directory or '.'}/{name}"


def text(value: str) -> bytes:
    """For a call; Unplanned for what no call can be given."""
    if "\0" in value:
        raise Unplanned("the answer is an error")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise Unplanned("the answer is an error") from error


def _refuse(process: Process) -> None:
    if not process.args or not process.args[0] or not process.cwd:
        raise Unplanned("the answer is an error")
    if process.scheduler is not None or process.io_priority is not None:
        raise Unplanned("scheduling")
    if process.apparmor_profile or process.selinux_label:
        raise Unplanned("labels")
    if process.capabilities and not process.capabilities.names <= capabilities.NUMBERS.keys():
        raise Unplanned("the answer is an error")
    if any(limit.type not in RLIMITS for limit in process.rlimits):
        raise Unplanned("the answer is an error")


def _identity(program: Program, process: Process, filter: Filter | None, have: int) -> None:
    call = program.call
    call("keyctl", keyring.JOIN_SESSION_KEYRING, None, may_fail=ANY_ERROR)
    if process.oom_score_adj is not None:
        path = b"/proc/self/oom_score_adj"
        opened = call("openat", AT_FDCWD, path, fds.O_WRONLY | fds.O_CLOEXEC, 0, may_fail=ANY_ERROR)
        score = b"%d" % process.oom_score_adj
        call("write", opened, score, len(score), may_fail=_FORBIDDEN)
        program.resume(opened)
    for limit in process.rlimits:
        pair = struct.pack("<qq", limit_value(limit.soft), limit_value(limit.hard))
        call("prlimit64", 0, RLIMITS[limit.type], pair, None)
    call("umask", DEFAULT_UMASK if process.user.umask is None else process.user.umask)
    if filter is not None and not process.no_new_privileges:
        _load(program, filter)
    _become(program, process, have)
    if process.no_new_privileges:
        call("prctl", seccomp.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if filter is not None:
            _load(program, filter)


def _become(program: Program, process: Process, have: int) -> None:
    call, user = program.call, process.user
    granted = grant(process.capabilities or Capabilities(), have)
    for number in range(capabilities.LAST + 1):
        if not granted.bounding >> number & 1:
            call("prctl", capabilities.PR_CAPBSET_DROP, number, 0, 0, 0)
    if user.uid:
        call("prctl", capabilities.PR_SET_KEEPCAPS, 1, 0, 0, 0)
    groups = user.additional_gids
    call("setgroups", len(groups), struct.pack(f"<{len(groups)}I", *groups) if groups else None)
    call("setresgid", user.gid, user.gid, user.gid)
    call("setresuid", user.uid, user.uid, user.uid)
    sets = capabilities.pack(granted.effective, granted.permitted, granted.inheritable)
    call("capset", capabilities.HEADER, sets)
    call("prctl", capabilities.PR_CAP_AMBIENT, capabilities.AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in range(capabilities.LAST + 1):
        if granted.ambient >> number & 1:
            call("prctl", capabilities.PR_CAP_AMBIENT, capabilities.AMBIENT_RAISE, number, 0, 0)


def _load(program: Program, filter: Filter) -> None:
    code = Counted(len(filter.program) // 8, filter.program)
    program.call("seccomp", seccomp.SET_MODE_FILTER, filter.flags, code)


def _execute(program: Program, process: Process) -> Iterator[Result]:
    environ = environment(process)
    arguments = Pointers(tuple(map(text, process.args)))
    variables = Pointers(tuple(text(f"{name}={value}") for name, value in environ.items()))
    name = process.args[0]
    if "/" in name:
        yield program.call("execve", text(name), arguments, variables)
        return
    for candidate in candidates(name, environ.get("PATH", "")):
        path = text(candidate)
        absent = program.call("faccessat", AT_FDCWD, path, _X_OK, may_fail=_NOT_THIS_ONE)
        yield program.call("execve", path, arguments, variables)
        program.resume(absent)
