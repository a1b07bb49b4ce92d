"""`skiff daemon start|stop|status`: the engine of this machine, for those without a service manager."""

from __future__ import annotations

import posix
import time

from skiff.cli.flags import Command
from skiff.client import autostart
from skiff.client.endpoint import DEFAULT_HOST, CannotConnect, Endpoint, dial
from skiff.errors import Forbidden, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

NOT_RUNNING = 3  # what init scripts answer (LSB 3.1, "program is not running")
SIGTERM = 15


def start(session: Session, flags: Parsed) -> int:
    _need_root()
    pid = autostart.start_engine(Endpoint(DEFAULT_HOST))
    print(
        f"skiffd is running already (pid {running_pid()})" if pid is None else f"started skiffd (pid {pid})"
    )
    return 0


def stop(session: Session, flags: Parsed) -> int:
    """Containers keep running: the engine can be stopped and started at any time."""
    _need_root()
    pid = running_pid()
    if pid is None:
        print("skiffd is not running")
        return 0
    posix.kill(pid, SIGTERM)
    deadline = time.monotonic() + flags["time"]
    while running_pid() == pid:
        if time.monotonic() > deadline:
            raise Unavailable(f"skiffd (pid {pid}) has not stopped after {flags['time']} seconds")
        time.sleep(autostart.GLANCE)
    print(f"stopped skiffd (pid {pid})")
    return 0


def status(session: Session, flags: Parsed) -> int:
    pid = running_pid()
    if pid is None:
        print("skiffd is not running")
        return NOT_RUNNING
    try:
        dial(Endpoint(DEFAULT_HOST)).close()
    except CannotConnect:
        print(f"skiffd is running (pid {pid}) but does not answer at {DEFAULT_HOST}")
        return 1
    print(f"skiffd is running (pid {pid}) at {DEFAULT_HOST}")
    return 0


def running_pid() -> int | None:
    """From the pid file, if that process lives and is a skiffd: pids are used again."""
    try:
        with open(autostart.PID_FILE, "rb") as file:
            pid = int(file.read().strip() or 0)
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if state != b"Z" and (b"skiff.engine" in words or b"skiffd" in words) else None


def _need_root() -> None:
    if posix.geteuid() != 0:
        raise Forbidden("skiff daemon: only root may start and stop the engine")


COMMANDS = {
    "daemon start": Command("", "Start the engine in the background", start, most=0),
    "daemon stop": Command(
        "[OPTIONS]",
        "Stop the engine; containers keep running",
        stop,
        (("time", "t", "int", 10, "Seconds to wait for its end"),),
        most=0,
    ),
    "daemon status": Command("", "Show whether the engine runs", status, most=0),
}
