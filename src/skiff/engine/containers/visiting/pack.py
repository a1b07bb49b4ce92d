"""A tree as a tar stream, written straight to a descriptor: a pipe, or a client's socket in HTTP chunks.

Large files go from the page cache to the descriptor without passing through here. Each step opens one name
below a descriptor and follows no link; what a running container deletes meanwhile is left out.
"""

import os
import select
import stat

from skiff.engine.storage import tarwriter
from skiff.engine.storage.tarstream import BLOCK

FULL = 1 << 18  # bytes collected before they are written
SMALL = 1 << 16  # below this a copy is cheaper than another system call
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OURS = (b"trusted.", b"security.selinux", b"system.")
_FLAGS = {stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFIFO: b"6"}


class Outlet:
    """Where the bytes go. framed: each write is an HTTP chunk; the last chunk is not ours to write.

    The descriptor may be non-blocking: it is somebody else's too.
    """

    def __init__(self, fd: int, *, framed: bool) -> None:
        self._fd = fd
        self._framed = framed
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size >= FULL:
            self.flush()

    def flush(self) -> None:
        data, self._held = b"".join(self._held), []
        self._size = 0
        if data:
            self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._framed else data)

    def file(self, fd: int, size: int) -> None:
        """Size bytes of an open file; zeros for what it has lost since it was looked at."""
        if size < SMALL:
            left = size
            while left and (data := os.read(fd, left)):
                left -= len(data)
                self.write(data)
            self.write(bytes(left))
            return
        if self._framed:
            self.write(b"")
            self.flush()
            self._send(b"%x\r\n" % size)
        else:
            self.flush()
        left = size
        while left:
            try:
                sent = os.sendfile(self._fd, fd, None, min(left, 1 << 30))
            except BlockingIOError:
                self._wait()
                continue
            if not sent:
                break
            left -= sent
        while left:
            piece = bytes(min(left, FULL))
            self._send(piece)
            left -= len(piece)
        if self._framed:
            self._send(b"\r\n")

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                self._wait()

    def _wait(self) -> None:
        ready = select.poll()
        ready.register(self._fd, select.POLLOUT)
        ready.poll()


class Packer:
    """Entries of one archive. one_device: what is mounted below appears as an empty directory."""

    def __init__(self, outlet: Outlet, *, one_device: bool = False) -> None:
        self._out = outlet
        self._one_device = one_device
        self._links: dict[tuple[int, int], bytes] = {}

    def entry(self, parent: int, name: bytes, title: bytes) -> None:
        """The file or tree called name below the descriptor parent; title: what the archive calls it."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            self._directory(parent, name, title, status)
            return
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), title)
            if first is not title:
                self._header(b"1", title, status, link=first)
                return
        if kind == stat.S_IFREG:
            self._file(parent, name, title)
        elif kind == stat.S_IFLNK:
            self._header(b"2", title, status, mode=0o777, link=os.readlink(name, dir_fd=parent))
        elif kind in _FLAGS:
            device = (os.major(status.st_rdev), os.minor(status.st_rdev))
            self._header(_FLAGS[kind], title, status, device=(0, 0) if kind == stat.S_IFIFO else device)

    def content(self, fd: int, prefix: bytes, device: int) -> None:
        """What is in a directory, sorted by name."""
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            if self._one_device and os.lstat(name, dir_fd=fd).st_dev != device:
                continue
            self.entry(fd, name, prefix + name)

    def end(self) -> None:
        self._out.write(tarwriter.END)
        self._out.flush()

    def _directory(self, parent: int, name: bytes, title: bytes, status: os.stat_result) -> None:
        try:
            fd = os.open(name, _STEP, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return  # deleted, or replaced by something else
        try:
            prefix = title if title.endswith(b"/") else title + b"/"
            self._header(b"5", prefix, status, xattrs=_attributes(fd))
            self.content(fd, prefix, status.st_dev)
        finally:
            os.close(fd)

    def _file(self, parent: int, name: bytes, title: bytes) -> None:
        try:
            fd = os.open(name, _READ, dir_fd=parent)
        except FileNotFoundError:
            return
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return
            self._header(b"0", title, status, size=status.st_size, xattrs=_attributes(fd))
            if status.st_size:
                self._out.file(fd, status.st_size)
                if status.st_size % BLOCK:
                    self._out.write(tarwriter.padding(status.st_size))
        finally:
            os.close(fd)

    def _header(
        self,
        kind: bytes,
        title: bytes,
        status: os.stat_result,
        *,
        mode: int | None = None,
        size: int = 0,
        link: bytes = b"",
        device: tuple[int, int] = (0, 0),
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self._out.write(
            tarwriter.header(
                kind,
                title,
                mode=stat.S_IMODE(status.st_mode) if mode is None else mode,
                uid=status.st_uid,
                gid=status.st_gid,
                mtime_ns=status.st_mtime_ns,
                size=size,
                link=link,
                device=device,
                xattrs=xattrs,
            )
        )


def _attributes(fd: int) -> tuple[tuple[bytes, bytes], ...]:
    try:
        names = os.listxattr(fd)
    except OSError:  # a file system without any
        return ()
    if not names:
        return ()
    found = ((os.fsencode(name), os.getxattr(fd, name)) for name in sorted(names))
    return tuple((name, value) for name, value in found if not name.startswith(_OURS))
