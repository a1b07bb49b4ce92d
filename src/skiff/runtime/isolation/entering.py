"""The last steps before a container's program, as calls: streams, directory, identity, PATH, execve. Pure.

What program.py and identity.py do in an interpreter, a spawned child does by these; in the same order, for
the same reasons. They cover what nearly every container asks for. Whatever else it may be, and whatever
fails, is for the interpreter: Unplanned, or a call whose failure ends the child.
"""

import errno
import struct
from collections.abc import Iterator
from typing import Final

from skiff.linux import capabilities
from skiff.linux.calls import ANY_ERROR, Argument, Counted, Pointers, Program, Result, errors
from skiff.linux.processes import OFTEN_IGNORED
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Capabilities, Process
from skiff.runtime.isolation.identity import DEFAULT_UMASK, RLIMITS

_AT_FDCWD: Final = -100
_O_WRONLY: Final = 1
_O_DIRECTORY_PATH: Final = 0o200000 | 0o10000000 | 0o2000000  # O_DIRECTORY, O_PATH, O_CLOEXEC
_O_CLOEXEC: Final = 0o2000000
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_CLOSE_RANGE_CLOEXEC: Final = 4
_LAST_FD: Final = (1 << 32) - 1
_X_OK: Final = 1
_NOT_THIS_ONE: Final = errors(errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_FORBIDDEN: Final = errors(errno.EACCES, errno.EPERM)

_SIG_SETMASK: Final = 2
_DEFAULT_ACTION: Final = bytes(32)
_JOIN_SESSION_KEYRING: Final = 1
_SET_MODE_FILTER: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_AMBIENT_RAISE: Final = 2
_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_UNLIMITED: Final = (1 << 64) - 1
_NO_LIMIT_FROM: Final = 1 << 63


class Unplanned(Exception):
    """An interpreter has to do it."""


def settle(program: Program, tasks: tuple[Argument, ...]) -> None:
    """Just born: nothing left of what our parent was, and into the groups (see cgroups.join)."""
    for number in OFTEN_IGNORED:
        program.call("rt_sigaction", number, _DEFAULT_ACTION, None, 8)
    program.call("rt_sigprocmask", _SIG_SETMASK, bytes(8), None, 8)
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
    program.call("close_range", 3, _LAST_FD, _CLOSE_RANGE_CLOEXEC)
    # By descriptor, and by no link of /proc: a directory of the host's may be open still.
    how = struct.pack("<3Q", _O_DIRECTORY_PATH, 0, _RESOLVE_NO_MAGICLINKS)
    directory = program.call("openat2", _AT_FDCWD, text(process.cwd), how, len(how))
    program.call("fchdir", directory)
    _identity(program, process, filter, have)
    return tuple(_execute(program, process))


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
    sets = process.capabilities or Capabilities()
    named = {*sets.bounding, *sets.effective, *sets.permitted, *sets.inheritable, *sets.ambient}
    if not named <= capabilities.NUMBERS.keys():
        raise Unplanned("the answer is an error")
    if any(limit.type not in RLIMITS for limit in process.rlimits):
        raise Unplanned("the answer is an error")


def _identity(program: Program, process: Process, filter: Filter | None, have: int) -> None:
    call = program.call
    call("keyctl", _JOIN_SESSION_KEYRING, None, may_fail=ANY_ERROR)
    if process.oom_score_adj is not None:
        path = b"/proc/self/oom_score_adj"
        opened = call("openat", _AT_FDCWD, path, _O_WRONLY | _O_CLOEXEC, 0, may_fail=ANY_ERROR)
        score = b"%d" % process.oom_score_adj
        call("write", opened, score, len(score), may_fail=_FORBIDDEN)
        program.resume(opened)
    for limit in process.rlimits:
        pair = (_limit(limit.soft), _limit(limit.hard))
        call("prlimit64", 0, RLIMITS[limit.type], struct.pack("<QQ", *pair), None)
    call("umask", DEFAULT_UMASK if process.user.umask is None else process.user.umask)
    if filter is not None and not process.no_new_privileges:
        _load(program, filter)
    _become(program, process, have)
    if process.no_new_privileges:
        call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if filter is not None:
            _load(program, filter)


def _become(program: Program, process: Process, have: int) -> None:
    call, user = program.call, process.user
    wanted = process.capabilities or Capabilities()
    mask = capabilities.mask
    bounding = mask(wanted.bounding)
    for number in range(capabilities.LAST + 1):
        if not bounding >> number & 1:
            call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
    if user.uid:
        call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    groups = user.additional_gids
    call("setgroups", len(groups), struct.pack(f"<{len(groups)}I", *groups) if groups else None)
    call("setresgid", user.gid, user.gid, user.gid)
    call("setresuid", user.uid, user.uid, user.uid)
    permitted = mask(wanted.permitted) & have
    inheritable = mask(wanted.inheritable) & have
    sets = (mask(wanted.effective) & permitted, permitted, inheritable)
    halves = [half & 0xFFFFFFFF for half in (*sets, *(bits >> 32 for bits in sets))]
    call("capset", struct.pack("<Ii", _CAPABILITY_VERSION_3, 0), struct.pack("<6I", *halves))
    call("prctl", _PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    ambient = mask(wanted.ambient) & permitted & inheritable
    for number in range(capabilities.LAST + 1):
        if ambient >> number & 1:
            call("prctl", _PR_CAP_AMBIENT, _AMBIENT_RAISE, number, 0, 0)


def _load(program: Program, filter: Filter) -> None:
    code = Counted(len(filter.program) // 8, filter.program)
    program.call("seccomp", _SET_MODE_FILTER, filter.flags, code)


def _limit(value: int) -> int:
    return _UNLIMITED if value < 0 or value >= _NO_LIMIT_FROM else value


def _execute(program: Program, process: Process) -> Iterator[Result]:
    environment = dict(entry.partition("=")[::2] for entry in process.env if "=" in entry)
    environment.setdefault("HOME", "/")
    arguments = Pointers(tuple(map(text, process.args)))
    variables = Pointers(tuple(text(f"{name}={value}") for name, value in environment.items()))
    name = process.args[0]
    if "/" in name:
        yield program.call("execve", text(name), arguments, variables)
        return
    search = environment.get("PATH", "")
    for directory in search.split(":") if search else ():
        path = text(f"{directory or '.'}/{name}")
        absent = program.call("faccessat", _AT_FDCWD, path, _X_OK, may_fail=_NOT_THIS_ONE)
        yield program.call("execve", path, arguments, variables)
        program.resume(absent)
