"""Start the engine when none runs at the default socket and we are root. Said once, on stderr.

Off by SKIFF_AUTOSTART=0 or {"features": {"skiff-autostart": "false"}} in config.json.
"""

from __future__ import annotations

import fcntl
import posix
import sys
import time

from skiff.client.endpoint import CannotConnect, Endpoint, dial
from skiff.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from skiff.client.config_file import ConfigFile

FOLDER = "/run/skiff"
PID_FILE = f"{FOLDER}/skiffd.pid"
LOCK_FILE = f"{FOLDER}/autostart.lock"
LOG_FILE = "/var/log/skiffd.log"
PATIENCE = 30.0  # seconds until the socket must answer
GLANCE = 0.01


def wanted(env: Callable[[str], str], config: Callable[[], ConfigFile]) -> bool:
    setting = env("SKIFF_AUTOSTART").lower()
    if setting in ("0", "false", "no", "off") or posix.geteuid() != 0:
        return False
    return bool(setting) or config().has_feature("skiff-autostart", default=True)


def start_engine(endpoint: Endpoint) -> int | None:
    """skiffd, detached; its pid once the socket answers, None if another command line was faster.

    Raises Unavailable with the log's last line when it dies.
    """
    try:
        posix.mkdir(FOLDER, 0o711)
    except FileExistsError:
        pass
    lock = posix.open(LOCK_FILE, posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _answers(endpoint):
            return None
        pid = _spawn()
        _await(endpoint, pid)
        return pid
    finally:
        posix.close(lock)


def _spawn() -> int:
    log = posix.open(LOG_FILE, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC, 0o640)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    environment = dict(posix.environ)
    root = __file__.removesuffix("/skiff/client/autostart.py")
    if not root.endswith("-packages"):
        # Run from a source tree: the child's `site` does not know it.
        held = environment.get(b"PYTHONPATH")
        environment[b"PYTHONPATH"] = root.encode() + (b":" + held if held else b"")
    try:
        return posix.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "skiff.engine"],
            environment,
            file_actions=[
                (posix.POSIX_SPAWN_DUP2, null, 0),
                (posix.POSIX_SPAWN_DUP2, log, 1),
                (posix.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
        pid = posix.fork()
        if pid:
            return pid
        try:
            posix.setsid()
            for fd, to in ((null, 0), (log, 1), (log, 2)):
                posix.dup2(fd, to)
            posix.execve(sys.executable, [sys.executable, "-m", "skiff.engine"], environment)
        finally:
            posix._exit(127)
    finally:
        posix.close(log)
        posix.close(null)


def _await(endpoint: Endpoint, pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if _answers(endpoint):
            return
        ended, status = posix.waitpid(pid, posix.WNOHANG)
        if ended:
            code = posix.waitstatus_to_exitcode(status)
            raise Unavailable(f"skiffd could not start (exit code {code}); see {LOG_FILE}: {_last_line()}")
        time.sleep(GLANCE)
    raise Unavailable(f"skiffd (pid {pid}) does not answer at {endpoint.url}; see {LOG_FILE}")


def _answers(endpoint: Endpoint) -> bool:
    try:
        dial(endpoint).close()
    except CannotConnect:
        return False
    return True


def _last_line() -> str:
    with open(LOG_FILE, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4096))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it is empty"
