"""Several upper directories as one: what a stack of writable layers comes to, as overlayfs would show it.

No byte is copied: files are hard links, so the result must lie on the same file system and is only to be
read.
"""

import os
import shutil
import stat
from collections.abc import Sequence

from skiff.engine.storage.beneath import visible

_OPAQUE = "trusted.overlay.opaque"


def merge(uppers: Sequence[str], lowers: Sequence[str], target: str) -> None:
    """Make target, which must not exist, the upper directory that comes to the same as uppers on lowers (both
    topmost first).
    """
    os.mkdir(target, 0o700)
    for upper in reversed(uppers):
        _lay(upper, target, "", lowers)


def _lay(source: str, target: str, path: str, lowers: Sequence[str]) -> None:
    with os.scandir(source) as children:
        for child in children:
            below = f"{path}/{child.name}"[path == "" :]
            _lay_one(child, f"{target}/{child.name}", below, lowers)
    _attributes(source, target)


def _lay_one(child: os.DirEntry[str], new: str, path: str, lowers: Sequence[str]) -> None:
    status = child.stat(follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        _remove(new)
        if not _is_whiteout(status) or visible(lowers, path):
            os.link(child.path, new, follow_symlinks=False)
        return
    hides = _OPAQUE in os.listxattr(child.path, follow_symlinks=False)
    if hides or not os.path.isdir(new) or os.path.islink(new):
        # what was here hid the lowers' directory: the new one must, too
        hides = hides or (os.path.lexists(new) and visible(lowers, path))
        _remove(new)
        os.mkdir(new, 0o700)
    _lay(child.path, new, path, lowers)
    if hides:
        os.setxattr(new, _OPAQUE, b"y")


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _attributes(source: str, target: str) -> None:
    status = os.lstat(source)
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if name != _OPAQUE:
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
