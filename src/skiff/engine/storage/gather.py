"""Files out of a directory that somebody else goes on using, each copied with its digest: for the extraction
helper.

Reads below one descriptor and writes below another; no link is followed on either side. A file that has no
longer the kind and size that it was listed with ends it (ESTALE). Data is shared with the original where the
file system can.
"""

import errno
import hashlib
import os
import select
import stat
from collections.abc import Iterator, Sequence

from skiff.engine.storage.copying import clone

_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SET_ID = stat.S_ISUID | stat.S_ISGID
_PIECE = 1 << 20
_SMALL = 1 << 17  # bytes that are not worth a try to share them
_OFTEN = 32  # files between two looks at whoever waits

Item = tuple[str, str, int, int, int, str]
"""kind (d f l p), path, permissions, size in bytes, mtime in seconds, target of a link."""


class Gathering:
    """source, target: directories. waiting: a socket; when its other end has gone, nobody wants the rest."""

    def __init__(self, source: int, target: int, waiting: int) -> None:
        self._source = _Steps(source)
        self._target = _Steps(target)
        self._clones = True
        self._gone = select.poll()
        self._gone.register(waiting, select.POLLRDHUP)
        self.sums: dict[str, str] = {}

    def run(self, items: Sequence[Item]) -> None:
        """Directories before what is in them; paths as JSON has them, their bytes as latin-1. OSError."""
        os.umask(0)
        for number, (kind, path, mode, size, seconds, target) in enumerate(items):
            if number % _OFTEN == 0:
                self._look()
            above, _, name = path.encode("latin-1").rpartition(b"/")
            place = self._target.step(above)
            if kind == "f":
                self.sums[path] = self._file(self._source.step(above), place, name, mode, size, seconds)
                continue
            if kind == "d":
                os.mkdir(name, mode, dir_fd=place)
                os.chmod(name, mode, dir_fd=place)  # mkdir(2) sets no such bit, or lets it inherit one
            elif kind == "l":
                os.symlink(target.encode("latin-1"), name, dir_fd=place)
            elif kind == "p":
                os.mkfifo(name, mode, dir_fd=place)
            os.utime(name, (seconds, seconds), dir_fd=place, follow_symlinks=False)

    def _look(self) -> None:
        if self._gone.poll(0):
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _file(self, source: int, target: int, name: bytes, mode: int, size: int, seconds: int) -> str:
        reader = os.open(name, _READ, dir_fd=source)
        try:
            _check(reader, size)
            writer = os.open(name, _NEW, mode, dir_fd=target)
            try:
                digest = self._copied(reader, writer, size)
                if mode & _SET_ID:  # writing clears these bits
                    os.fchmod(writer, mode)
                os.utime(writer, (seconds, seconds))
                return digest
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _copied(self, reader: int, writer: int, size: int) -> str:
        digest = hashlib.sha256()
        if size > _SMALL and self._clones:
            self._clones = clone(reader, writer)
            if self._clones:
                _check(writer, size)
                for data in self._pieces(writer, size):
                    digest.update(data)
                return digest.hexdigest()
        for data in self._pieces(reader, size):
            digest.update(data)
            while data:
                data = data[os.write(writer, data) :]
        return digest.hexdigest()

    def _pieces(self, fd: int, size: int) -> Iterator[bytes]:
        left = size
        while left:
            data = os.read(fd, min(left, _PIECE))
            if not data:
                raise _changed()
            yield data
            left -= len(data)
            if left:
                self._look()


def _check(fd: int, size: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise _changed()


def _changed() -> OSError:
    return OSError(errno.ESTALE, "a file has changed since it was listed")


class _Steps:
    """Directories below a descriptor, one after the other: the last one stays open."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._at = b""
        self._fd = root

    def step(self, path: bytes) -> int:
        if path != self._at:
            fd = self._walk(path)
            if self._fd != self._root:
                os.close(self._fd)
            self._at, self._fd = path, fd
        return self._fd

    def _walk(self, path: bytes) -> int:
        fd = self._root
        for part in path.split(b"/") if path else ():
            if part in (b"", b".", b".."):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            try:
                below = os.open(part, _STEP, dir_fd=fd)
            finally:
                if fd != self._root:
                    os.close(fd)
            fd = below
        return fd
