"""Into a container's file system, in a process of its own: afterwards its root is the container's.

Running: its mount namespace is joined and copied, so that volumes and tmpfs are seen; /proc, whose links
lead elsewhere, and its like are taken out of the copy. Stopped: the snapshot and its volumes are mounted in
a namespace that ends with this process. Nothing of it shows in the host's mount table.
"""

import contextlib
import os
from typing import Any

from skiff.linux import mounts, namespaces, safepath


def running(namespace: int, root: int, hidden: list[str], *, alone: bool) -> None:
    """namespace, root: descriptors of /proc/PID/ns/mnt and /proc/PID/root. hidden: mounts to take out.

    alone: only the root's own file system, without what is mounted in it.
    """
    status = os.fstat(root)
    namespaces.setns(namespace, namespaces.CLONE_NEWNS)
    here = os.stat("/")
    if (here.st_dev, here.st_ino) != (status.st_dev, status.st_ino):
        raise OSError(1, "the container's root is not that of its mount namespace")
    if alone:
        tree = mounts.open_tree("/")
        os.fchdir(tree)
        os.close(tree)
    else:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts.set_propagation("/", mounts.MS_PRIVATE | mounts.MS_REC)
        for path in hidden:
            with contextlib.suppress(FileNotFoundError):
                _take_away(path)
        os.chdir("/")
    os.close(namespace)
    os.close(root)
    os.chroot(".")
    os.chdir("/")


def stopped(rootfs: dict[str, Any], binds: list[dict[str, Any]], at: str) -> None:
    """rootfs: {"type", "source", "options"}. binds: {"source", "target", "ro", "part"}.

    part: what of the source, relative to it; empty for all. at: an empty directory.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.set_propagation("/", mounts.MS_PRIVATE | mounts.MS_REC)
    if rootfs["type"] == "overlay":
        tree = mounts.new_overlay(rootfs["options"])
    else:
        tree = mounts.open_tree(rootfs["source"], recursive=True)
    mounts.attach(tree, at)
    os.close(tree)
    root = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for bind in binds:
        with contextlib.suppress(FileNotFoundError):  # a source that has gone hides nothing
            _bind(root, bind)
    os.fchdir(root)
    os.close(root)
    os.chroot(".")
    os.chdir("/")


def _bind(root: int, bind: dict[str, Any]) -> None:
    tree = (
        _part(bind["source"], bind["part"])
        if bind["part"]
        else mounts.open_tree(bind["source"], recursive=True)
    )
    try:
        if bind["ro"]:
            mounts.set_attributes(tree, mounts.MOUNT_ATTR_RDONLY, recursive=True)
        directory = safepath.is_directory(tree)
        target = safepath.make_mount_point(root, bind["target"], directory=directory)
        try:
            mounts.attach(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(tree)


def _part(directory: str, path: str) -> int:
    """A detached copy of what is at path inside a directory, whatever links are there."""
    top = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    part = safepath.open_in_root(top, path)
    try:
        return mounts.open_tree("", recursive=True, dir_fd=part)
    finally:
        os.close(part)
        os.close(top)


def _take_away(path: str) -> None:
    """Every mount that lies on path."""
    while True:
        try:
            mounts.unmount(path)
        except OSError as error:
            if error.errno == 22:  # EINVAL: nothing is mounted there
                return
            raise
