"""The root of a container: opened, filled with what the plan says, closed for what it must not say.

`prepare` opens what the host gives (the root itself, sources of binds) as detached trees; by the parent when
init has a user namespace, so that nothing inside needs a right to reach them. `build` runs in init, before
pivot_root: it attaches them through descriptors resolved inside the root, so nothing can escape.

    root_plan.plan(…) → [Bind, Filesystem, …]    prepare(root mounts, steps) → Trees    build(trees, steps)
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from skiff.linux import mounts, safepath
from skiff.linux.mounts import Options
from skiff.linux.namespaces import mapped_namespace
from skiff.oci.runtime import Mount
from skiff.runtime.isolation import procfs
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.isolation.root_plan import Bind, Filesystem, Link, Mask, Node, ReadOnly, Step


class Trees(Struct):
    """What the parent opened. root: detached mount of the root. binds: step index → detached tree."""

    root: int
    binds: dict[int, int]

    def close(self) -> None:
        for fd in (self.root, *self.binds.values()):
            os.close(fd)


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


def let_mount_again(rootfs: Sequence[Mount]) -> None:
    """After a mount that came to nothing: the kernel refuses to mount a volatile overlay a second time.

    filesystems/overlayfs.rst § Volatile mount.
    """
    for mount in rootfs:
        if mount.type == "overlay" and "volatile" in mount.options:
            work = next(option[8:] for option in mount.options if option.startswith("workdir="))
            with suppress(FileNotFoundError):
                os.unlink(f"{work}/work/incompat/volatile/dirty")
            with suppress(FileNotFoundError):
                os.rmdir(f"{work}/work/incompat/volatile")


def _detached(source: str, options: Options) -> int:
    tree = mounts.open_tree(source, recursive=bool(options.flags & mounts.MS_REC))
    try:
        # A copy of the host's mount hears of the host's changes, but does not speak to it unless asked.
        if not any(kind & mounts.MS_SHARED for kind in options.propagation):
            mounts.set_attributes(tree, propagation=mounts.MS_SLAVE, recursive=True)
        mounts_set = mounts.attributes_of(options.flags)
        mounts_cleared = mounts.attributes_of(options.cleared)
        if mounts_set or mounts_cleared:
            mounts.set_attributes(tree, mounts_set, mounts.clearing(mounts_set, mounts_cleared))
        if options.set or options.clear:
            mounts.set_attributes(
                tree, options.set, mounts.clearing(options.set, options.clear), recursive=True
            )
    except BaseException:
        os.close(tree)
        raise
    return tree


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
        mounts.set_attributes(top, options.set, mounts.clearing(options.set, options.clear), recursive=True)


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
