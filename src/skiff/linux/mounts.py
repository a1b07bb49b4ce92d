"""Mounting: mount(2), the descriptor-based mount calls, pivot_root, and the grammar of mount options.

No policy: no default option of ours. `parse` is pure; the rest are thin calls that raise OSError with the
target as filename.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from skiff.linux import namespaces
from skiff.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, check, libc, syscall

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_SYNCHRONOUS: Final = 16
MS_REMOUNT: Final = 32
MS_MANDLOCK: Final = 64
MS_DIRSYNC: Final = 128
MS_NOSYMFOLLOW: Final = 256
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_SILENT: Final = 32768
MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20
MS_RELATIME: Final = 1 << 21
MS_I_VERSION: Final = 1 << 23
MS_STRICTATIME: Final = 1 << 24
MS_LAZYTIME: Final = 1 << 25
MNT_DETACH: Final = 2

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR_ATIME: Final = 0x70
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_IDMAP: Final = 0x100000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x200000

SYS_OPEN_TREE: Final = 428
SYS_MOVE_MOUNT: Final = 429
SYS_FSOPEN: Final = 430
SYS_FSCONFIG: Final = 431
SYS_FSMOUNT: Final = 432
SYS_MOUNT_SETATTR: Final = 442
SYS_PIVOT_ROOT: Final = 155 if os.uname().machine == "x86_64" else 41

OPEN_TREE_CLONE: Final = 1
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
MOVE_MOUNT_F_EMPTY_PATH: Final = 4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40

PROC_MAGIC: Final = 0x9FA0  # linux/magic.h
MAX_DATA: Final = 4095  # mount(2) copies one page

_RELEASE: Final = [part.partition("-")[0].rstrip("+") for part in os.uname().release.split(".")]
TAKES_LAYERS_ONE_BY_ONE: Final = tuple(map(int, _RELEASE[:2])) >= (6, 7)  # overlayfs

libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]

# option → (flag, set or clear); mount(8)
_FLAGS: Final[dict[str, tuple[int, bool]]] = {
    "acl": (0, True),
    "async": (MS_SYNCHRONOUS, False),
    "atime": (MS_NOATIME, False),
    "bind": (MS_BIND, True),
    "defaults": (0, True),
    "dev": (MS_NODEV, False),
    "diratime": (MS_NODIRATIME, False),
    "dirsync": (MS_DIRSYNC, True),
    "exec": (MS_NOEXEC, False),
    "iversion": (MS_I_VERSION, True),
    "lazytime": (MS_LAZYTIME, True),
    "loud": (MS_SILENT, False),
    "mand": (MS_MANDLOCK, True),
    "noatime": (MS_NOATIME, True),
    "nodev": (MS_NODEV, True),
    "nodiratime": (MS_NODIRATIME, True),
    "noexec": (MS_NOEXEC, True),
    "noiversion": (MS_I_VERSION, False),
    "nolazytime": (MS_LAZYTIME, False),
    "nomand": (MS_MANDLOCK, False),
    "norelatime": (MS_RELATIME, False),
    "nostrictatime": (MS_STRICTATIME, False),
    "nosuid": (MS_NOSUID, True),
    "nosymfollow": (MS_NOSYMFOLLOW, True),
    "rbind": (MS_BIND | MS_REC, True),
    "relatime": (MS_RELATIME, True),
    "remount": (MS_REMOUNT, True),
    "ro": (MS_RDONLY, True),
    "rw": (MS_RDONLY, False),
    "silent": (MS_SILENT, True),
    "strictatime": (MS_STRICTATIME, True),
    "suid": (MS_NOSUID, False),
    "symfollow": (MS_NOSYMFOLLOW, False),
    "sync": (MS_SYNCHRONOUS, True),
}
_PROPAGATION: Final = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
# option → (attributes to set, attributes to clear), over the whole tree; runtime-spec 1.2 config.md § Mounts
_RECURSIVE: Final[dict[str, tuple[int, int]]] = {
    "rro": (MOUNT_ATTR_RDONLY, 0),
    "rrw": (0, MOUNT_ATTR_RDONLY),
    "rnosuid": (MOUNT_ATTR_NOSUID, 0),
    "rsuid": (0, MOUNT_ATTR_NOSUID),
    "rnodev": (MOUNT_ATTR_NODEV, 0),
    "rdev": (0, MOUNT_ATTR_NODEV),
    "rnoexec": (MOUNT_ATTR_NOEXEC, 0),
    "rexec": (0, MOUNT_ATTR_NOEXEC),
    "rnodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "rdiratime": (0, MOUNT_ATTR_NODIRATIME),
    "rrelatime": (0, MOUNT_ATTR_ATIME),
    "rnorelatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "rnoatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
    "ratime": (0, MOUNT_ATTR_ATIME),
    "rstrictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "rnostrictatime": (0, MOUNT_ATTR_ATIME),
    "rnosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "rsymfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
}


class Options(Struct, frozen=True):
    """Mount options, taken apart.

    flags: MS_* for mount(2). cleared: flags taken back by name (`rw`, `suid`, `dev`), for a remount of a
    bind.
    propagation: MS_* of each propagation option, in order. set, clear: recursive MOUNT_ATTR_*. data: what
    is left,
    for the file system. idmap: `idmap` → 1, `ridmap` → 2. copy_up: tmpcopyup.
    """

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    set: int = 0
    clear: int = 0
    data: tuple[str, ...] = ()
    idmap: int = 0
    copy_up: bool = False


def parse(options: Iterable[str]) -> Options:
    """Options of mount(8) and of the runtime specification. Later ones win."""
    flags = cleared = set_ = clear = idmap = 0
    propagation: list[int] = []
    data: list[str] = []
    copy_up = False
    for option in options:
        if option in _FLAGS:
            flag, on = _FLAGS[option]
            flags, cleared = (flags | flag, cleared & ~flag) if on else (flags & ~flag, cleared | flag)
        elif option in _PROPAGATION:
            propagation.append(_PROPAGATION[option])
        elif option in _RECURSIVE:
            on_bits, off_bits = _RECURSIVE[option]
            set_, clear = (set_ & ~off_bits) | on_bits, (clear & ~on_bits) | off_bits
        elif option == "idmap":
            idmap = 1
        elif option == "ridmap":
            idmap = 2
        elif option == "tmpcopyup":
            copy_up = True
        elif option:
            data.append(option)
    return Options(flags, cleared, tuple(propagation), set_, clear, tuple(data), idmap, copy_up)


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """The classic call; see its man page, section 2."""
    result = libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        flags,
        os.fsencode(data) if data else None,
    )
    check(result, "mount", target)


def unmount(target: str, *, lazily: bool = True) -> None:
    """Take away, MNT_DETACH unless told otherwise."""
    check(libc.umount2(os.fsencode(target), MNT_DETACH if lazily else 0), "umount", target)


def set_propagation(target: str, propagation: int) -> None:
    """propagation: MS_PRIVATE and its kin, with MS_REC."""
    mount(None, target, None, propagation)


def pivot_root_here() -> None:
    """Make the current directory the root and drop the old one.

    Neither is visible on the way. The caller has made every old mount a slave or private, so that their
    removal cannot travel to the host. pivot_root(2).
    """
    check(syscall(SYS_PIVOT_ROOT, b".", b"."), "pivot_root")
    # The old root now lies over the new one: an unmount reaches what is on top, anything else what is below.
    unmount(".")
    os.chdir("/")


def open_tree(path: str, *, recursive: bool = False, dir_fd: int = AT_FDCWD) -> int:
    """A detached copy of the mount at path, as a descriptor: a bind that is nowhere yet.

    A path /proc/PID/root/… is looked up in the mount namespace of that process: only there may it be copied.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= AT_EMPTY_PATH
    match path.split("/", 4):
        case ["", "proc", pid, "root", inner] if pid.isdecimal():
            theirs = namespaces.open_namespace(f"/proc/{pid}/ns/mnt")
            try:
                return namespaces.elsewhere(
                    lambda: namespaces.setns(theirs, namespaces.CLONE_NEWNS),
                    lambda: _open_tree(dir_fd, f"/{inner}", flags),
                )
            finally:
                os.close(theirs)
    return _open_tree(dir_fd, path, flags)


def _open_tree(dir_fd: int, path: str, flags: int) -> int:
    return check(syscall(SYS_OPEN_TREE, dir_fd, os.fsencode(path), flags), "open_tree", path)


def set_attributes(
    fd: int, set: int = 0, clear: int = 0, *, propagation: int = 0, userns: int = 0, recursive: bool = False
) -> None:
    """Change the attributes of a mount given by descriptor. mount_setattr(2)."""
    attributes = changes(set, clear, propagation, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    check(syscall(SYS_MOUNT_SETATTR, fd, b"", flags, attributes, len(attributes)), "mount_setattr")


def changes(set: int, clear: int, propagation: int, userns: int = 0) -> bytes:
    """What mount_setattr(2) is to do: struct mount_attr."""
    return struct.pack("=4Q", set, clear, propagation, userns)


def clearing(on: int, off: int) -> int:
    """Access-time modes are one field of the kernel's: to set one, all of it is cleared."""
    return off | MOUNT_ATTR_ATIME if (on | off) & MOUNT_ATTR_ATIME else off


def attach(tree: int, target: int | str) -> None:
    """Put a detached mount at a place given by descriptor or path. move_mount(2)."""
    if isinstance(target, int):
        flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
        check(syscall(SYS_MOVE_MOUNT, tree, b"", target, b"", flags), "move_mount")
    else:
        where = os.fsencode(target)
        check(
            syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, where, MOVE_MOUNT_F_EMPTY_PATH), "move_mount", target
        )


def new_filesystem(kind: str, options: Iterable[str], attributes: int = 0, source: str = "") -> int:
    """A detached mount of a new file system; options are `key=value` or `key`. fsopen(2), fsmount(2)."""
    fs = check(syscall(SYS_FSOPEN, kind.encode(), 1), "fsopen", kind)
    try:
        if source:
            _configure(fs, FSCONFIG_SET_STRING, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            _configure(
                fs, FSCONFIG_SET_STRING if equals else FSCONFIG_SET_FLAG, key, value if equals else None
            )
        _configure(fs, FSCONFIG_CMD_CREATE, None, None)
        return check(syscall(SYS_FSMOUNT, fs, 1, attributes), "fsmount", kind)
    finally:
        os.close(fs)


def new_overlay(options: Iterable[str], attributes: int = 0) -> int:
    r"""A detached overlay: any number of lower layers.

    options: as for mount(8); a colon inside a path is written `\:` there. Linux 6.7 takes the layers one by
    one (`lowerdir+`); before, a value for fsconfig(2) is no longer than 255 bytes, so mount(2) does it.
    """
    lowers, others = overlay_options(options)
    if TAKES_LAYERS_ONE_BY_ONE:
        return new_filesystem(
            "overlay", [*(f"lowerdir+={lower}" for lower in lowers), *others], attributes, "overlay"
        )
    return _overlay_by_mount(lowers, others, attributes)


def overlay_options(options: Iterable[str]) -> tuple[list[str], list[str]]:
    """(the lower layers, topmost first; the other options) of an overlay."""
    lowers: list[str] = []
    others: list[str] = []
    for option in options:
        if option.startswith("lowerdir="):
            lowers += lower_directories(option[9:])
        else:
            others.append(option)
    return lowers, others


def overlay_in_one_line(lowers: list[str], others: list[str]) -> tuple[str, str]:
    """(where to stand, data for mount(2)): the layers are named relative to where they all are.

    OSError E2BIG when they do not fit into one page.
    """
    top = os.path.commonpath(lowers)
    lowerdir = ":".join(_escaped(os.path.relpath(lower, top)) for lower in lowers)
    data = ",".join((f"lowerdir={lowerdir}", *others))
    if len(os.fsencode(data)) > MAX_DATA:
        raise OSError(errno.E2BIG, "too many layers for an overlay before Linux 6.7")
    return top, data


def _overlay_by_mount(lowers: list[str], others: list[str], attributes: int) -> int:
    """By mount(2), in a new mount namespace that is gone afterwards. OSError E2BIG."""
    top, data = overlay_in_one_line(lowers, others)

    def enter() -> None:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        set_propagation("/", MS_PRIVATE | MS_REC)

    def act() -> int:
        os.chdir(top)
        mount("overlay", "/proc", "overlay", 0, data)
        return open_tree("/proc")

    tree = namespaces.elsewhere(enter, act)
    if attributes:
        set_attributes(tree, attributes)
    return tree


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def is_procfs(fd: int) -> bool:
    """Whether a descriptor (O_PATH will do) lies on a procfs. fstatfs(2)."""
    about = ctypes.create_string_buffer(512)
    check(libc.fstatfs(fd, about), "fstatfs")
    magic: int = struct.unpack_from("l", about)[0]
    return magic == PROC_MAGIC


def lower_directories(value: str) -> list[str]:
    r"""The paths of a lowerdir= value, topmost first: split at `:`, `\:` and `\\` taken back."""
    paths: list[str] = []
    current = ""
    characters = iter(value)
    for character in characters:
        if character == "\\":
            current += next(characters, "\\")
        elif character == ":":
            paths.append(current)
            current = ""
        else:
            current += character
    return [*paths, current]


def attributes_of(flags: int) -> int:
    """MS_* flags of one mount as MOUNT_ATTR_*."""
    attributes = 0
    for flag, attribute in (
        (MS_RDONLY, MOUNT_ATTR_RDONLY),
        (MS_NOSUID, MOUNT_ATTR_NOSUID),
        (MS_NODEV, MOUNT_ATTR_NODEV),
        (MS_NOEXEC, MOUNT_ATTR_NOEXEC),
        (MS_NOATIME, MOUNT_ATTR_NOATIME),
        (MS_STRICTATIME, MOUNT_ATTR_STRICTATIME),
        (MS_NODIRATIME, MOUNT_ATTR_NODIRATIME),
        (MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
    ):
        if flags & flag:
            attributes |= attribute
    return attributes


def _configure(fs: int, command: int, key: str | None, value: str | None) -> None:
    encoded_key = None if key is None else key.encode()
    encoded = None if value is None else os.fsencode(value)
    check(syscall(SYS_FSCONFIG, fs, command, encoded_key, encoded, 0), f"fsconfig {key or 'create'}", value)
