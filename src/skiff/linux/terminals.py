"""Pseudo-terminals in a given devpts, and their window size. No policy."""

import fcntl
import os
import struct
import termios
from typing import Final

TIOCGPTN: Final = 0x80045430
TIOCSPTLCK: Final = 0x40045431
TIOCGPTPEER: Final = 0x5441


def open_terminal(ptmx: str) -> tuple[int, int, str]:
    """(master, slave, path of the slave below its devpts such as `0`), both close-on-exec. pty(7).

    ptmx: the multiplexor of the devpts instance wanted, such as /dev/pts/ptmx. The slave is opened through
    the master, so no path is followed.
    """
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, bytes(4)))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise
    return master, slave, str(number)


def set_window_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ; the foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def window_size(fd: int) -> tuple[int, int]:
    """(rows, columns)."""
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def control_terminal(fd: int) -> None:
    """Make it the controlling terminal of our (fresh) session."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
