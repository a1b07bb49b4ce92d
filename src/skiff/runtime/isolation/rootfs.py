"""From a spec to the mounts, nodes and masks of a container's root: first a list of steps, then its
execution.

`plan` is a function of its arguments. `prepare` runs in the parent: it opens what the host gives (the root
itself,
sources of binds) as detached trees, so a user namespace inside needs no right to reach them. `build` runs
in the
child, before pivot_root: it attaches them through descriptors resolved inside the root, so nothing can
escape.

    plan(spec, …) → [Bind, Filesystem, …]    prepare(root mounts, steps) → Trees    build(trees, steps) in
    the child
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from skiff.linux import mounts, safepath
from skiff.linux.cgroups import Layout
from skiff.linux.mounts import Options
from skiff.linux.namespaces import mapped_namespace
from skiff.oci.runtime import IdMapping, Mount, Spec
from skiff.runtime.isolation import procfs
from skiff.runtime.isolation.handshake import StepFailed, step_failed

# Every container has these; runtime-spec 1.2, config-linux.md § Default Devices
DEFAULT_NODES: Final = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
DEFAULT_LINKS: Final = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_KINDS: Final = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class Bind(Struct, frozen=True):
    """A file or directory of the host. idmap: owners are shifted by these maps (uids, gids)."""

    source: str
    target: str
    options: Options
    idmap: tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] | None = None


class Filesystem(Struct, frozen=True):
    kind: str
    source: str
    target: str
    options: Options


class Link(Struct, frozen=True):
    """A symlink; one that is there already stays."""

    path: str
    to: str


class Node(Struct, frozen=True):
    path: str
    mode: int
    major: int
    minor: int
    uid: int
    gid: int


class Mask(Struct, frozen=True):
    """Nothing can be read there: /dev/null over a file, an empty read-only tmpfs over a directory."""

    path: str


class ReadOnly(Struct, frozen=True):
    """What is there can only be read.

    whole: with all that is mounted below; else only the mount on that place.
    """

    path: str
    whole: bool = True


Step = Bind | Filesystem | Link | Node | Mask | ReadOnly


class Trees(Struct):
    """What the parent opened. root: detached mount of the root. binds: step index → detached tree."""

    root: int
    binds: dict[int, int]

    def close(self) -> None:
        for fd in (self.root, *self.binds.values()):
            os.close(fd)


# -- plan ------------------------------------------------------------------------------------------------


def plan(spec: Spec, here: Layout, cgroup: str, *, new_user: bool, new_cgroup: bool) -> list[Step]:
    """The steps for everything below the root, in order. StepFailed for what cannot be meant.

    here, cgroup: for mounts of type `cgroup`. new_user: nodes cannot be made, so they are bound.
    new_cgroup: the container sees only its own groups.
    """
    steps: list[Step] = []
    for mount in spec.mounts:
        if not mount.destination:
            raise StepFailed("mount", text="a mount without a destination")
        options = mounts.parse(mount.options)
        if mount.type == "bind" or options.flags & mounts.MS_BIND:
            idmap = _idmap(mount, options, spec)
            steps.append(Bind(mount.source, mount.destination, options, idmap))
        elif mount.type in ("cgroup", "cgroup2"):
            steps.extend(_cgroup_mounts(mount.destination, options, here, cgroup, own=new_cgroup))
        else:
            if mount.uid_mappings or options.idmap:
                raise StepFailed(f"mount {mount.destination}", text="idmap is for bind mounts only")
            steps.append(Filesystem(mount.type, mount.source or mount.type, mount.destination, options))
    steps.extend(_nodes(spec, bound=new_user))
    steps.extend(Link(path, to) for path, to in DEFAULT_LINKS)
    if spec.linux:
        steps.extend(ReadOnly(path) for path in spec.linux.readonly_paths)
        steps.extend(Mask(path) for path in spec.linux.masked_paths)
    return steps


def _idmap(
    mount: Mount, options: Options, spec: Spec
) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] | None:
    if mount.uid_mappings or mount.gid_mappings:
        return mount.uid_mappings, mount.gid_mappings
    if not options.idmap:
        return None
    if not spec.linux or not spec.linux.uid_mappings:
        raise StepFailed(f"mount {mount.destination}", text="idmap without any id mappings")
    return spec.linux.uid_mappings, spec.linux.gid_mappings


def _cgroup_mounts(target: str, options: Options, here: Layout, cgroup: str, *, own: bool) -> Iterator[Step]:
    """v2 alone: cgroup2. v1 or hybrid: a tmpfs with one directory per hierarchy."""

    def view(kind: str, point: str, at: str, data: tuple[str, ...]) -> Step:
        if own:
            return Filesystem(kind, "cgroup", at, Options(flags=options.flags, data=data))
        return Bind(f"{point}{cgroup}", at, Options(flags=options.flags | mounts.MS_BIND))

    if not here.v1:
        yield view("cgroup2", here.v2, target, ())
        return
    guarded = options.flags & ~mounts.MS_RDONLY
    yield Filesystem("tmpfs", "tmpfs", target, Options(flags=guarded, data=("mode=755",)))
    by_point: dict[str, list[str]] = {}
    for controller, point in here.v1.items():
        by_point.setdefault(point, []).append(controller)
    for point, controllers in by_point.items():
        name = os.path.basename(point)
        data = tuple(c for c in controllers)
        if any(c.startswith("name=") for c in controllers):
            data = ("none", *controllers)
        yield view("cgroup", point, f"{target}/{name}", data)
        for controller in controllers:
            if len(controllers) > 1 and controller != name:
                yield Link(f"{target}/{controller}", name)
    if here.v2:
        yield view("cgroup2", here.v2, f"{target}/{os.path.basename(here.v2)}", ())
    if options.flags & mounts.MS_RDONLY:
        yield ReadOnly(target, whole=False)


def _nodes(spec: Spec, *, bound: bool) -> Iterator[Step]:
    if not any(mount.destination.rstrip("/") == "/dev" for mount in spec.mounts):
        wanted: dict[str, Node] = {}
    else:
        wanted = {
            path: Node(path, stat.S_IFCHR | 0o666, major, minor, 0, 0) for path, major, minor in DEFAULT_NODES
        }
    for device in spec.linux.devices if spec.linux else ():
        if device.type not in _KINDS:
            raise StepFailed(f"mknod {device.path}", text=f"unknown device type {device.type!r}")
        permissions = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        wanted[device.path] = Node(
            device.path,
            _KINDS[device.type] | permissions,
            device.major,
            device.minor,
            device.uid,
            device.gid,
        )
    for node in wanted.values():
        yield Bind(node.path, node.path, Options(flags=mounts.MS_BIND)) if bound else node


# -- prepare, in the parent ------------------------------------------------------------------------------


def prepare(rootfs: Sequence[Mount], root_path: str, steps: Sequence[Step]) -> Trees:
    """Open the root and the sources of all binds as detached trees. StepFailed; nothing stays open then.

    rootfs: mounts that make up the root (an overlay or a bind), or empty for the directory root_path.
    """
    trees = Trees(open_root(rootfs, root_path), {})
    try:
        for index, step in enumerate(steps):
            if isinstance(step, Bind):
                with step_failed(f"mount {step.source} to {step.target}"):
                    trees.binds[index] = _bind_tree(step)
    except BaseException:
        trees.close()
        raise
    return trees


def open_root(rootfs: Sequence[Mount], root_path: str) -> int:
    """The root as a detached mount. StepFailed."""
    if not rootfs:
        with step_failed(f"root {root_path}"):
            return _detached(root_path, mounts.parse(("rbind",)))
    if len(rootfs) > 1:
        raise StepFailed("root", text="more than one mount for the root")
    mount = rootfs[0]
    options = mounts.parse(mount.options)
    with step_failed(f"root {mount.type}"):
        if mount.type == "bind" or options.flags & mounts.MS_BIND:
            return _detached(mount.source, options)
        attributes = mounts.attributes_of(options.flags)
        if mount.type == "overlay":
            return mounts.new_overlay(options.data, attributes)
        return mounts.new_filesystem(mount.type, options.data, attributes, mount.source)


def _detached(source: str, options: Options) -> int:
    tree = mounts.open_tree(source, recursive=bool(options.flags & mounts.MS_REC))
    try:
        # A copy of the host's mount hears of the host's changes, but does not speak to it unless asked.
        if not any(kind & mounts.MS_SHARED for kind in options.propagation):
            mounts.set_attributes(tree, propagation=mounts.MS_SLAVE, recursive=True)
        mounts_set = mounts.attributes_of(options.flags)
        mounts_cleared = mounts.attributes_of(options.cleared)
        if mounts_set or mounts_cleared:
            mounts.set_attributes(tree, mounts_set, _clearing(mounts_set, mounts_cleared))
        if options.set or options.clear:
            mounts.set_attributes(tree, options.set, _clearing(options.set, options.clear), recursive=True)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _clearing(on: int, off: int) -> int:
    """Access-time modes are one field of the kernel's: to set one, all of it is cleared."""
    return off | mounts.MOUNT_ATTR_ATIME if (on | off) & mounts.MOUNT_ATTR_ATIME else off


def _bind_tree(step: Bind) -> int:
    tree = _detached(step.source, step.options)
    if step.idmap is not None:
        try:
            userns = mapped_namespace(
                [(m.container_id, m.host_id, m.size) for m in step.idmap[0]],
                [(m.container_id, m.host_id, m.size) for m in step.idmap[1]],
            )
            try:
                mounts.set_attributes(
                    tree, mounts.MOUNT_ATTR_IDMAP, userns=userns, recursive=step.options.idmap == 2
                )
            finally:
                os.close(userns)
        except BaseException:
            os.close(tree)
            raise
    return tree


# -- build, in the child ---------------------------------------------------------------------------------


def build(trees: Trees, steps: Sequence[Step], at: str = "/") -> None:
    """Attach the root and run the steps. We are in our own mount namespace, the host still around us.
    StepFailed.

    at: where the root is attached. Over `/` it is seen by nobody, but reached through its descriptor.
    """
    with step_failed("mount propagation"):
        mounts.set_propagation("/", mounts.MS_SLAVE | mounts.MS_REC)
    with step_failed("mount root"):
        mounts.attach(trees.root, at)
    root = trees.root
    old = os.umask(0)
    for index, step in enumerate(steps):
        match step:
            case Filesystem():
                with step_failed(f"mount {step.target}"):
                    _filesystem(root, step)
            case Bind():
                with step_failed(f"mount {step.source} to {step.target}"):
                    _bind(root, step, trees.binds[index])
            case Node():
                with step_failed(f"mknod {step.path}"):
                    _node(root, step)
            case Link():
                with step_failed(f"symlink {step.path}"):
                    _link(root, step)
            case Mask():
                with step_failed(f"mask {step.path}"):
                    _mask(root, step.path)
            case ReadOnly():
                with step_failed(f"readonly {step.path}"):
                    _read_only(root, step)
    os.umask(old)


def finish(root: int, *, readonly: bool, propagation: str) -> None:
    """The root's own attributes, once nothing below it has to be made any more."""
    kinds = mounts.parse((propagation,)).propagation if propagation else ()
    if propagation and not kinds:
        raise StepFailed("root propagation", text=f"unknown propagation {propagation!r}")
    with step_failed("root attributes"):
        for kind in kinds:
            # Only downwards from here: what binds share with the host was settled when they were opened.
            mounts.set_attributes(root, propagation=kind & ~mounts.MS_REC)
        if readonly:
            mounts.set_attributes(root, mounts.MOUNT_ATTR_RDONLY)


def _filesystem(root: int, step: Filesystem) -> None:
    options = step.options
    target = safepath.make_mount_point(root, step.target, directory=True)
    try:
        if step.kind in ("proc", "sysfs"):
            # Masks are looked up by path afterwards: what is masked must be what was mounted here.
            os.close(safepath.open_in_root(root, step.target, links=False))
        procfs.check(target, step.target, is_proc=step.kind == "proc")
        where = safepath.fd_path(target)
        data = ",".join(options.data)
        if options.copy_up and step.kind == "tmpfs":
            mode = os.fstat(target).st_mode & 0o7777
            if not any(option.startswith("mode=") for option in options.data):
                data = ",".join((*options.data, f"mode={mode:o}"))
        if len(data) > mounts.MAX_DATA and step.kind == "overlay":
            mounts.attach(mounts.new_overlay(options.data, mounts.attributes_of(options.flags)), target)
        elif options.copy_up and step.kind == "tmpfs":
            _copied_up(root, step, target, data)
        else:
            mounts.mount(step.source, where, step.kind, options.flags, data)
    finally:
        os.close(target)
    if options.propagation or options.set or options.clear:
        top = safepath.open_in_root(root, step.target)
        try:
            _attributes(top, options)
        finally:
            os.close(top)


def _copied_up(root: int, step: Filesystem, below: int, data: str) -> None:
    """A tmpfs that begins with what its directory held."""
    mounts.mount(step.source, safepath.fd_path(below), "tmpfs", step.options.flags & ~mounts.MS_RDONLY, data)
    top = safepath.open_in_root(root, step.target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        source = os.open(safepath.fd_path(below), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_tree(source, top)
        finally:
            os.close(source)
        if step.options.flags & mounts.MS_RDONLY:
            mounts.set_attributes(top, mounts.MOUNT_ATTR_RDONLY)
    finally:
        os.close(top)


def copy_tree(source: int, target: int) -> None:
    """Everything below one directory descriptor into another, owners and modes kept, by descriptors only."""
    about = os.fstat(source)
    os.fchown(target, about.st_uid, about.st_gid)
    for name in os.listdir(source):
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
            continue
        if stat.S_ISDIR(info.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner, outer = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
            copy_tree(inner, outer)
        elif stat.S_ISREG(info.st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            outer = os.open(name, flags, 0o600, dir_fd=target)
            while os.sendfile(outer, inner, None, 1 << 20):
                pass
            os.fchown(outer, info.st_uid, info.st_gid)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=target)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
            continue
        os.fchmod(outer, stat.S_IMODE(info.st_mode))
        os.close(inner)
        os.close(outer)


def _bind(root: int, step: Bind, tree: int) -> None:
    target = safepath.make_mount_point(root, step.target, directory=safepath.is_directory(tree))
    try:
        procfs.check(target, step.target, is_proc=mounts.is_procfs(tree))
        mounts.attach(tree, target)
    finally:
        os.close(target)
    for kind in step.options.propagation:
        if not kind & mounts.MS_SLAVE:
            mounts.set_attributes(
                tree, propagation=kind & ~mounts.MS_REC, recursive=bool(kind & mounts.MS_REC)
            )


def _attributes(top: int, options: Options) -> None:
    for kind in options.propagation:
        mounts.set_attributes(top, propagation=kind & ~mounts.MS_REC, recursive=bool(kind & mounts.MS_REC))
    if options.set or options.clear:
        mounts.set_attributes(top, options.set, _clearing(options.set, options.clear), recursive=True)


def _node(root: int, step: Node) -> None:
    parent, name = safepath.make_parent(root, step.path)
    try:
        try:
            os.mknod(name, step.mode, os.makedev(step.major, step.minor), dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (stat.S_IFMT(found.st_mode), found.st_rdev) != (
                stat.S_IFMT(step.mode),
                os.makedev(step.major, step.minor),
            ):
                raise
        if step.uid or step.gid:
            os.chown(name, step.uid, step.gid, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _link(root: int, step: Link) -> None:
    parent, name = safepath.make_parent(root, step.path)
    try:
        os.symlink(step.to, name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.EROFS):
            raise
    finally:
        os.close(parent)


def _mask(root: int, path: str) -> None:
    try:
        target = safepath.open_in_root(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if safepath.is_directory(target):
            mounts.mount(
                "tmpfs", safepath.fd_path(target), "tmpfs", mounts.MS_RDONLY, "nr_blocks=1,nr_inodes=1"
            )
        else:
            mounts.mount("/dev/null", safepath.fd_path(target), None, mounts.MS_BIND)
    finally:
        os.close(target)


def _read_only(root: int, step: ReadOnly) -> None:
    try:
        target = safepath.open_in_root(root, step.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not step.whole:
            mounts.set_attributes(target, mounts.MOUNT_ATTR_RDONLY)
            return
        tree = mounts.open_tree("", recursive=True, dir_fd=target)
        try:
            mounts.set_attributes(tree, mounts.MOUNT_ATTR_RDONLY, recursive=True)
            mounts.attach(tree, target)
        finally:
            os.close(tree)
    finally:
        os.close(target)
