"""A person at a terminal: a command line on a pseudo-terminal, what it shows, and what is typed."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence


class Terminal:
    """shown: what was written and not yet expected; passed: what came before the last thing expected."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self.master = master
        self.shown = b""
        self.passed = b""

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def resize(self, rows: int, columns: int) -> None:
        """What a window does: the new size, then SIGWINCH."""
        _set_size(self.master, rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def expect(self, text: bytes, seconds: float = 15) -> None:
        """Read until it has been shown after what was expected before."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert self._read(end - time.monotonic()), f"no {text!r} in {self.shown!r}"
        self.passed, _, self.shown = self.shown.partition(text)

    def end(self, seconds: float = 15) -> int:
        """Its exit status."""
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0.0, seconds))
        data = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            data = os.read(self.master, 1 << 16) if ready else b""
        self.shown += data
        return bool(data)


@contextlib.contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], rows: int = 24, columns: int = 80
) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    _set_size(master, rows, columns)
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def _set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
