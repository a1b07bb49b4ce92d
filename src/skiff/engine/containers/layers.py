"""Reading one file of a container without mounting it: its layers are searched from the top.

Symlinks are resolved within the layers only; each directory is opened relative to its parent, never through
a symlink: nothing outside can be reached, even if the container changes meanwhile.
Whiteouts and opaque directories as overlayfs has them (kernel, filesystems/overlayfs.rst).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from skiff.errors import NotFound
from skiff.linux import mounts

MOST_LINKS = 40
LARGEST = 4 << 20  # bytes of a file read here


def read(layers: Sequence[str], path: str) -> bytes:
    """The content of a regular file. layers: directories, topmost first. NotFound."""
    with ExitStack() as stack:
        fd = _open(layers, path, stack)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotFound(f"{path}: not a regular file")
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            return file.read(LARGEST)


def _open(layers: Sequence[str], path: str, stack: ExitStack) -> int:
    links = 0
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    top = [_directory(layer, None, stack) for layer in layers]
    trail = [[fd for fd in top if fd is not None]]
    while todo:
        part = todo.pop()
        if part == "..":
            if len(trail) > 1:
                trail.pop()
            continue
        found, kind, target = _step(trail[-1], part, stack)
        if kind == "link":
            links += 1
            if links > MOST_LINKS:
                raise NotFound(f"{path}: too many levels of symbolic links")
            if target.startswith("/"):
                del trail[1:]
            todo += [p for p in reversed(target.split("/")) if p not in ("", ".")]
        elif kind == "directory":
            trail.append(found)
        elif kind == "file" and not todo:
            return found[0]
        else:
            raise NotFound(f"{path}: no such file or directory")
    if not trail[-1]:
        raise NotFound(f"{path}: no such file or directory")
    return trail[-1][0]


def _step(directories: list[int], name: str, stack: ExitStack) -> tuple[list[int], str, str]:
    """(what is there in which layers, its kind, a link's target)."""
    found: list[int] = []
    for directory in directories:
        try:
            about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISDIR(about.st_mode):
            fd = _directory(name, directory, stack)
            if fd is None:
                break
            found.append(fd)
            if _is_opaque(fd):
                break
            continue
        if found:
            break  # a directory above hides it
        if stat.S_ISLNK(about.st_mode):
            return [], "link", os.readlink(name, dir_fd=directory)
        if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
            break
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        stack.callback(os.close, fd)
        return [fd], "file", ""
    return found, "directory" if found else "nothing", ""


def _directory(name: str, parent: int | None, stack: ExitStack) -> int | None:
    # the layer's own path is ours and may hold symlinks; below it none is followed
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if parent is not None else 0)
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except OSError:
        return None
    stack.callback(os.close, fd)
    return fd


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", "trusted.overlay.opaque") in (b"y", b"x")
    except OSError:
        return False


@contextmanager
def directory(layers: Sequence[str], path: str) -> Iterator[str | None]:
    """A directory as the layers together show it, as a path good inside the block; None if there is none.

    Several layers are mounted over one another, detached: no mount table shows it.
    """
    with ExitStack() as stack:
        root = layers[0] if layers else ""
        if len(layers) > 1:
            fd = mounts.new_overlay([f"lowerdir={':'.join(map(_escaped, layers))}"], mounts.MOUNT_ATTR_RDONLY)
            stack.callback(os.close, fd)
            root = f"/proc/self/fd/{fd}"
        try:
            found = _open([root], path, stack)
        except NotFound:
            yield None
            return
        is_directory = stat.S_ISDIR(os.fstat(found).st_mode)
        yield f"/proc/self/fd/{found}" if is_directory else None


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
