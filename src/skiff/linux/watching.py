"""Watching what this process asks of the kernel: each call that changes something, with its time.

    watch(tell) ─► os.mkdir, libc.mount, libc.unshare, … are replaced by ones that tell
    unwatch()   ─► they are themselves again

Nobody marks their code for it, and while nobody watches nothing is different: there is no flag to test. A
child that is cloned while its parent watches goes on telling until its execve. In a process of many threads
each call is told to whoever watches in its own context (`recorder`).
"""

import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, NamedTuple

from msgspec import DecodeError, Struct, json

from skiff.linux import libc, mounts, processes, syscalls

LONGEST: Final = 20_000  # characters of one argument
_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE; `inspect` itself is too much for a monitor
_FD_PATH: Final = "/proc/self/fd/"
_CREATING: Final = os.O_CREAT | os.O_TRUNC
_CONTROLS: Final = ("/sys/fs/cgroup/", "/proc/", "/sys/")


class Step(Struct, frozen=True, array_like=True):
    """One call. begin, end: ns of the monotonic clock, the same in every process of a machine.

    name: `os.mkdir`, `mount`, `prctl`, `netlink.request`. args: numbers and texts; descriptors are paths,
    bytes that are no text hexadecimal.
    error: what came of it, or "".
    """

    name: str
    args: list[Any]
    begin: int
    end: int
    pid: int
    error: str = ""


Tell = Callable[[Step], None]


class Target(NamedTuple):
    """What is watched: owner.attribute. paths: positions of descriptors among its arguments.

    also: asked before the call, of the object that a method belongs to; its answer is one more argument.
    """

    owner: Any
    attribute: str
    name: str
    paths: tuple[int, ...] = ()
    method: bool = False
    also: Callable[[Any], Any] | None = None


# system call number → (name, positions of descriptors)
_SYSTEM_CALLS: Final[dict[int, tuple[str, tuple[int, ...]]]] = {
    mounts.SYS_OPEN_TREE: ("open_tree", (0,)),
    mounts.SYS_MOVE_MOUNT: ("move_mount", (2,)),
    mounts.SYS_FSOPEN: ("fsopen", ()),
    mounts.SYS_FSCONFIG: ("fsconfig", ()),
    mounts.SYS_FSMOUNT: ("fsmount", ()),
    mounts.SYS_MOUNT_SETATTR: ("mount_setattr", (0,)),
    mounts.SYS_PIVOT_ROOT: ("pivot_root", ()),
    processes.SYS_CLONE3: ("clone3", ()),
    processes.SYS_PIDFD_SEND_SIGNAL: ("pidfd_send_signal", ()),
}
if syscalls.architecture() in syscalls.ARCHITECTURES:
    _SYSTEM_CALLS[syscalls.number("seccomp")] = ("seccomp", ())
    _SYSTEM_CALLS[syscalls.number("keyctl")] = ("keyctl", ())
_OS: Final[dict[str, tuple[int, ...]]] = {
    "chdir": (),
    "chown": (),
    "execve": (),
    "fchdir": (0,),
    "fchown": (0,),
    "fork": (),
    "mkdir": (),
    "mknod": (),
    "open": (),
    "posix_spawn": (),
    "rename": (),
    "rmdir": (),
    "setgroups": (),
    "setresgid": (),
    "setresuid": (),
    "setsid": (),
    "symlink": (),
    "unlink": (),
    "write": (0,),
}
_LIBC: Final[dict[str, tuple[int, ...]]] = {
    "capset": (),
    "mount": (),
    "prctl": (),
    "setdomainname": (),
    "sethostname": (),
    "setns": (0,),
    "umount2": (),
    "unshare": (),
}


def kernel() -> list[Target]:
    """Every door that this package has to the kernel."""
    doors = [Target(os, name, f"os.{name}", paths) for name, paths in _OS.items()]
    doors += [Target(libc.libc, name, name, paths) for name, paths in _LIBC.items()]
    doors += [
        Target(libc, "_syscall", "syscall"),
        Target(libc.locked_libc, "syscall", "syscall"),
        Target(resource, "setrlimit", "setrlimit"),
    ]
    return doors


_replaced: list[tuple[Any, str, Any]] = []


def watch(tell: Tell, targets: Iterable[Target] | None = None) -> None:
    """From now on every call is told. One watch at a time: see `unwatch`."""
    for target in kernel() if targets is None else targets:
        original = getattr(target.owner, target.attribute)
        _replaced.append((target.owner, target.attribute, original))
        setattr(target.owner, target.attribute, _told(target, original, tell))


def unwatch() -> None:
    """Everything is itself again; nothing happens when nobody watches."""
    while _replaced:
        owner, attribute, original = _replaced.pop()
        setattr(owner, attribute, original)


def is_watching() -> bool:
    """Whether somebody is told."""
    return bool(_replaced)


def _told(target: Target, original: Any, tell: Tell) -> Any:
    clock, getpid = time.monotonic_ns, os.getpid

    def described(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, list[Any]] | None:
        try:
            return _described(target, args[1:] if target.method else args, kwargs)
        except (TypeError, ValueError, LookupError, AttributeError):
            return target.name, []  # a call of another shape than known is told without its arguments

    def told(name: str, args: list[Any], begin: int, pid: int, error: str) -> None:
        if getpid() == pid:  # and not its child, where a clone comes back, too
            tell(Step(name, args, begin, clock(), pid, error))

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        found = described(args, kwargs)
        if found is None:
            return original(*args, **kwargs)
        pid = getpid()
        if target.also is not None:
            found[1].append(target.also(args[0]))
        if target.name == "os.execve":
            tell(Step(*found, clock(), clock(), pid))  # it does not come back
        begin = clock()
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            told(*found, begin, pid, _reason(error))
            raise
        failed = isinstance(result, int) and result < 0 and target.owner is not os
        told(*found, begin, pid, os.strerror(ctypes.get_errno()) if failed else "")
        return result

    @wraps(original)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        found = described(args, kwargs)
        assert found is not None
        begin, pid = clock(), getpid()
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            told(*found, begin, pid, _reason(error))
            raise
        told(*found, begin, pid, "")
        return result

    code = getattr(original, "__code__", None)
    return awaited if code is not None and code.co_flags & _COROUTINE else call


def _described(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, list[Any]] | None:
    name, paths = target.name, target.paths
    values = [*args, *(value for key, value in kwargs.items() if not key.endswith("dir_fd"))]
    if name == "syscall":
        number = getattr(values[0], "value", values[0])
        if number not in _SYSTEM_CALLS:
            return None
        name, paths = _SYSTEM_CALLS[number]
        values = values[1:]
    if name == "os.symlink":
        return name, [os.fsdecode(values[0]), _below(kwargs.get("dir_fd"), os.fsdecode(values[1]))]
    shown = [_path(value) if at in paths else _plain(value) for at, value in enumerate(values)]
    if "dir_fd" in kwargs:
        shown[0] = _below(kwargs["dir_fd"], shown[0])
    if name == "os.write" and not str(shown[0]).startswith(_CONTROLS):
        return None
    if name == "os.open" and not (len(values) > 1 and values[1] & _CREATING):
        return None
    return name, shown


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _plain(value: Any) -> Any:
    value = getattr(value, "raw", getattr(value, "value", value))  # ctypes, enums
    if isinstance(value, bytes):
        value = value.decode() if value.isascii() and b"\0" not in value else value.hex()
    if isinstance(value, str):
        is_descriptor = value.startswith(_FD_PATH) and value.removeprefix(_FD_PATH).isdigit()
        return _path(value) if is_descriptor else value[:LONGEST]
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)[:LONGEST] if isinstance(value, dict) else type(value).__name__


def _path(value: Any) -> Any:
    """A descriptor, or the name of one, as the path it stands for."""
    value = getattr(value, "value", value)
    link = value if isinstance(value, str) else f"{_FD_PATH}{value}"
    try:
        return os.readlink(link)
    except OSError:
        return value


def _below(directory: int | None, name: Any) -> Any:
    if directory is None or not isinstance(name, str) or name.startswith("/"):
        return name
    return f"{str(_path(directory)).rstrip('/')}/{name}"


# -- in a process of its own: into a file ----------------------------------------------------------------

_encode: Final = json.Encoder().encode
_decode: Final = json.Decoder(Step).decode
_unlink: Final = os.unlink  # itself, even while it is watched
_file = -1


def to_file(directory: int, name: str) -> None:
    """Watch, and append each step to a file, a line each; the children of this process, too."""
    global _file
    if not name or _file >= 0:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    fd = _file = os.open(name, flags, 0o600, dir_fd=directory)
    write = os.write

    def tell(step: Step) -> None:
        write(fd, _encode(step) + b"\n")

    watch(tell)


def end_file() -> None:
    """Stop that; nothing happens when nobody watches."""
    global _file
    if _file >= 0:
        unwatch()
        os.close(_file)
        _file = -1


def from_file(path: str) -> list[Step]:
    """What was appended so far; the file is gone then."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
        _unlink(path)
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(_decode(line))
        except DecodeError:
            continue  # whoever wrote it was killed meanwhile
    return found


# -- in a process of many threads: to a recorder of the context -------------------------------------------


class Recorder:
    """Keeps the steps of one request. name: of the file into which other processes write theirs."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.steps: list[Step] = []
        self.followed: set[str] = set()  # whose end belongs to it, too

    def add(self, steps: Iterable[Step]) -> None:
        self.steps.extend(steps)
        del self.steps[self.limit :]


recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def to_recorder(step: Step) -> None:
    """A `tell` for `watch`: the recorder of the calling context, if it has one."""
    current = recorder.get()
    if current is not None:
        current.add((step,))
