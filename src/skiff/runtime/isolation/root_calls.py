"""The root of a container as calls: opened, filled with what the plan says, entered. Pure.

What rootfs.py does in an interpreter, a spawned init does by these; see entering.py for what they need not
cover. Paths inside the root are opened below its descriptor and through no symlink at all (rootfs.py follows
those that stay inside), so that where a mount lies is known from its path.
"""

import errno
import posixpath
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, count
from typing import Final, assert_never

from skiff.linux import mounts, safepath
from skiff.linux.calls import ANY_ERROR, Program, Result, errors
from skiff.linux.fds import O_CLOEXEC, O_DIRECTORY, O_PATH
from skiff.linux.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE
from skiff.linux.mounts import Options
from skiff.oci.runtime import Mount
from skiff.runtime.isolation.entering import Unplanned, text
from skiff.runtime.isolation.root_plan import Bind, Filesystem, Link, Mask, Node, ReadOnly, Step

# Numbers of descriptors, far from those that are open: the root, then the trees of binds.
ROOT: Final = 200
_CONTEXT: Final = 201
_BINDS: Final = 202
_MOST_BINDS: Final = 400

_AT_SYMLINK_NOFOLLOW: Final = 0x100
_DIRECTORY: Final = O_PATH | O_DIRECTORY
_OPEN_TREE: Final = mounts.OPEN_TREE_CLONE | O_CLOEXEC
_ONTO: Final = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
_PATHS_KEPT: Final = 1024  # they are nearly the same in every container
_FSOPEN_CLOEXEC: Final = 1
_ABSENT: Final = errors(errno.ENOENT, errno.ENOTDIR)
_A_FILE: Final = errors(errno.ENOTDIR)
_THERE: Final = errors(errno.EEXIST, errno.EROFS)
_FLAT: Final = frozenset(("tmpfs", "sysfs"))  # what may lie below another mount's place and never is a procfs


def open_all(program: Program, rootfs: Sequence[Mount], steps: Sequence[Step], at: str) -> None:
    """In a mount namespace of our own: the root, to be at ROOT, and what the host gives. Unplanned.

    at: a directory that nothing more is looked up in.
    """
    if len(rootfs) != 1 or rootfs[0].type != "overlay":
        raise Unplanned("no overlay")
    options = mounts.parse(rootfs[0].options)
    if mounts.TAKES_LAYERS_ONE_BY_ONE:
        _open_root(program, options)
    binds = [step for step in steps if isinstance(step, Bind)]
    if len(binds) > _MOST_BINDS:
        raise Unplanned("too many descriptors")
    for number, step in enumerate(binds, _BINDS):
        _open_bind(program, step, number)
    # Only now: until here mounts are peers of the host's, and binds that shall be shared stay so.
    program.call("mount", None, b"/", None, mounts.MS_SLAVE | mounts.MS_REC, None)
    if mounts.TAKES_LAYERS_ONE_BY_ONE:
        program.call("move_mount", ROOT, b"", AT_FDCWD, b"/", mounts.MOVE_MOUNT_F_EMPTY_PATH)
    else:
        _mount_root(program, options, at)


def _mount_root(program: Program, options: Options, at: str) -> None:
    """By mount(2), as before Linux 6.7."""
    try:
        top, data = mounts.overlay_in_one_line(*mounts.overlay_options(options.data))
    except OSError as error:
        raise Unplanned("the answer is an error") from error
    program.call("chdir", text(top))
    program.call("mount", b"overlay", text(at), b"overlay", options.flags, text(data))
    root = program.call("openat", AT_FDCWD, text(at), _DIRECTORY | O_CLOEXEC, 0)
    program.call("dup3", root, ROOT, O_CLOEXEC)


def _open_root(program: Program, options: Options) -> None:
    call = program.call
    fs = call("fsopen", b"overlay", _FSOPEN_CLOEXEC)
    call("dup3", fs, _CONTEXT, O_CLOEXEC)
    lowers, others = mounts.overlay_options(options.data)
    for option in ("source=overlay", *(f"lowerdir+={lower}" for lower in lowers), *others):
        key, equals, value = option.partition("=")
        command = mounts.FSCONFIG_SET_STRING if equals else mounts.FSCONFIG_SET_FLAG
        call("fsconfig", _CONTEXT, command, text(key), text(value) if equals else None, 0)
    call("fsconfig", _CONTEXT, mounts.FSCONFIG_CMD_CREATE, None, None, 0)
    root = call("fsmount", _CONTEXT, 1, mounts.attributes_of(options.flags))
    call("dup3", root, ROOT, O_CLOEXEC)


def furnish(program: Program, steps: Sequence[Step]) -> None:
    """Everything below the root. Our umask is 0. Unplanned."""
    before: list[Step] = []
    numbers = count(_BINDS)
    made: set[str] = set()
    for step in steps:
        match step:
            case Filesystem():
                _filesystem(program, step, before, made)
            case Bind():
                _bind(program, step, next(numbers), before, made)
            case Node():
                _node(program, step, made)
            case Link():
                parent, name = _parent(program, step.path, made)
                program.call("symlinkat", text(step.to), parent, name, may_fail=_THERE)
            case Mask():
                _mask(program, step.path)
            case ReadOnly():
                _read_only(program, step)
            case _:
                assert_never(step)
        before.append(step)


def make_directory(program: Program, path: str) -> None:
    """Mkdir -p inside the root, as far as it goes: for a working directory."""
    clean = _clean(path)
    if clean == "/":
        return
    there = _open(program, clean, _DIRECTORY, links=True, may_fail=ANY_ERROR)
    jump = program.skip()
    program.resume(there)
    for above, name in _levels(clean):
        parent = _open(program, above, _DIRECTORY, links=True, may_fail=ANY_ERROR)
        program.call("mkdirat", parent, text(name), 0o755, may_fail=ANY_ERROR)
        program.resume(parent)
    program.resume(jump)


def enter_root(program: Program, *, readonly: bool, propagation: str) -> None:
    """The root becomes `/`, and nothing of the old one is left. Unplanned."""
    call = program.call
    call("fchdir", ROOT)
    call("pivot_root", b".", b".")
    call("umount2", b".", mounts.MNT_DETACH)
    call("chdir", b"/")
    kinds = mounts.parse((propagation,)).propagation if propagation else ()
    if propagation and not kinds:
        raise Unplanned("the answer is an error")
    for kind in kinds:
        _set_attributes(program, ROOT, propagation=kind & ~mounts.MS_REC)
    if readonly:
        _set_attributes(program, ROOT, mounts.MOUNT_ATTR_RDONLY)


def _filesystem(program: Program, step: Filesystem, before: Sequence[Step], made: set[str]) -> None:
    options = step.options
    target = _place(step.target, before, is_proc=step.kind == "proc")
    if options.copy_up or options.propagation or options.set or options.clear or step.kind == "overlay":
        raise Unplanned("options")
    _make(program, target, made, directory=True)
    program.call("fchdir", _open(program, target, _DIRECTORY))
    data = text(",".join(options.data)) if options.data else None
    if data and len(data) > mounts.MAX_DATA:
        raise Unplanned("options")
    program.call("mount", text(step.source), b".", text(step.kind), options.flags, data)
    made.difference_update([path for path in made if path.startswith(f"{target}/")])  # out of sight
    if step.kind == "sysfs":
        made.update((f"{target}/fs", f"{target}/fs/cgroup"))


def _open_bind(program: Program, step: Bind, number: int) -> None:
    options = step.options
    if step.idmap is not None or step.source.startswith("/proc/"):
        raise Unplanned("an id-mapped bind, or of another namespace")
    call = program.call
    recursive = AT_RECURSIVE if options.flags & mounts.MS_REC else 0
    tree = call("open_tree", AT_FDCWD, text(step.source), _OPEN_TREE | recursive)
    call("dup3", tree, number, O_CLOEXEC)
    if not any(kind & mounts.MS_SHARED for kind in options.propagation):
        _set_attributes(program, number, propagation=mounts.MS_SLAVE, recursive=True)
    on, off = mounts.attributes_of(options.flags), mounts.attributes_of(options.cleared)
    if on or off:
        _set_attributes(program, number, on, mounts.clearing(on, off))
    if options.set or options.clear:
        _set_attributes(
            program, number, options.set, mounts.clearing(options.set, options.clear), recursive=True
        )


def _bind(program: Program, step: Bind, number: int, before: Sequence[Step], made: set[str]) -> None:
    call = program.call
    target = _place(step.target, before)
    is_file = call("openat", number, b".", _DIRECTORY | O_CLOEXEC, 0, may_fail=_A_FILE)
    known = set(made)
    _make(program, target, made, directory=True)
    place = _open(program, target, _DIRECTORY)
    call("move_mount", number, b"", place, b"", _ONTO)
    done = program.skip()
    program.resume(is_file)
    _make(program, target, known, directory=False)
    call("move_mount", number, b"", _open(program, target, O_PATH), b"", _ONTO)
    program.resume(done)
    for kind in step.options.propagation:
        if not kind & mounts.MS_SLAVE:
            _set_attributes(
                program,
                number,
                propagation=kind & ~mounts.MS_REC,
                recursive=bool(kind & mounts.MS_REC),
            )


def _node(program: Program, step: Node, made: set[str]) -> None:
    parent, name = _parent(program, step.path, made)
    device = (step.major & 0xFFF) << 8 | (step.minor & 0xFF) | (step.minor & ~0xFF) << 12
    program.call("mknodat", parent, name, step.mode, device)
    if step.uid or step.gid:
        program.call("fchownat", parent, name, step.uid, step.gid, _AT_SYMLINK_NOFOLLOW)


def _mask(program: Program, path: str) -> None:
    call = program.call
    target = _clean(path)
    there = _open(program, target, O_PATH, may_fail=_ABSENT)
    directory = _open(program, target, _DIRECTORY, may_fail=_A_FILE)
    call("fchdir", directory)
    call("mount", b"tmpfs", b".", b"tmpfs", mounts.MS_RDONLY, b"nr_blocks=1,nr_inodes=1")
    done = program.skip()
    program.resume(directory)
    nothing = call("open_tree", AT_FDCWD, b"/dev/null", _OPEN_TREE)
    call("move_mount", nothing, b"", there, b"", _ONTO)
    program.resume(done)
    program.resume(there)


def _read_only(program: Program, step: ReadOnly) -> None:
    call = program.call
    there = _open(program, _clean(step.path), O_PATH, may_fail=_ABSENT)
    if not step.whole:
        _set_attributes(program, there, mounts.MOUNT_ATTR_RDONLY)
        program.resume(there)
        return
    tree = call("open_tree", there, b"", _OPEN_TREE | AT_EMPTY_PATH | AT_RECURSIVE)
    _set_attributes(program, tree, mounts.MOUNT_ATTR_RDONLY, recursive=True)
    call("move_mount", tree, b"", there, b"", _ONTO)
    program.resume(there)


def _place(path: str, before: Sequence[Step], *, is_proc: bool = False) -> str:
    """Where a mount goes. Unplanned where it might be a procfs: below /proc, or in what came from outside."""
    target = _clean(path)
    if target.startswith("/proc/") or target == "/" or (target == "/proc") != is_proc:
        raise Unplanned("a procfs elsewhere, another mount at its place, or one over all")
    for step in before:
        if isinstance(step, Bind):
            outside = True
        elif isinstance(step, Filesystem):
            outside = step.kind not in _FLAT
        else:
            continue
        if outside and target.startswith(_clean(step.target) + "/"):
            raise Unplanned("a mount below another")
    return target


def _make(program: Program, target: str, made: set[str], *, directory: bool) -> None:
    """The place of a mount with its parents, where they are missing; made: those that are there."""
    levels = _levels(target)
    for above, name in levels if directory else levels[:-1]:
        path = posixpath.join(above, name)
        if path not in made:
            parent = _open(program, above, _DIRECTORY)
            program.call("mkdirat", parent, text(name), 0o755, may_fail=_THERE)
            made.add(path)
    if not directory:
        above, name = levels[-1]
        parent = _open(program, above, _DIRECTORY)
        program.call("mknodat", parent, text(name), 0o100755, 0, may_fail=_THERE)


def _parent(program: Program, path: str, made: set[str]) -> tuple[Result, bytes]:
    above, name = posixpath.split(_clean(path))
    if above != "/":
        _make(program, above, made, directory=True)
    return _open(program, above, _DIRECTORY), text(name)


def _open(program: Program, path: str, flags: int, *, links: bool = False, may_fail: int = 0) -> Result:
    resolve = safepath.RESOLVE_NO_MAGICLINKS if links else safepath.RESOLVE_NO_SYMLINKS
    how = safepath.how(flags, safepath.RESOLVE_IN_ROOT | resolve)
    return program.call("openat2", ROOT, text(path), how, len(how), may_fail=may_fail)


def _set_attributes(
    program: Program,
    mount: int | Result,
    on: int = 0,
    off: int = 0,
    *,
    propagation: int = 0,
    recursive: bool = False,
) -> None:
    attributes = mounts.changes(on, off, propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    program.call("mount_setattr", mount, b"", flags, attributes, len(attributes))


@lru_cache(_PATHS_KEPT)
def _levels(path: str) -> tuple[tuple[str, str], ...]:
    """(parent, name) of each directory on the way, the highest first."""
    parts = path.strip("/").split("/")
    return tuple(zip(accumulate(parts[:-1], posixpath.join, initial="/"), parts, strict=True))


@lru_cache(_PATHS_KEPT)
def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))
