"""The last steps before a container's program: stdio, directory, identity, the search in PATH, execve.

Shared by init and by processes that join. Runs with nothing of the host in sight; the only way back is a
StepFailed before execve, and the socket that execve closes.
"""

import errno
import os
import signal
import socket
import stat
from collections.abc import Sequence
from typing import NoReturn

from skiff.linux import fds, processes, terminals
from skiff.linux.seccomp import Filter
from skiff.oci.runtime import Process
from skiff.runtime.isolation.entering import candidates, environment
from skiff.runtime.isolation.handshake import StepFailed, reason, step_failed
from skiff.runtime.isolation.identity import apply_identity


def terminal(process: Process, ptmx: str, rows: int = 0, columns: int = 0) -> tuple[int, int]:
    """(master, slave) of a new terminal in the container's devpts, owned by the process's user."""
    with step_failed("open a terminal"):
        master, slave, _ = terminals.open_terminal(ptmx)
        os.fchown(slave, process.user.uid, -1)
        size = process.console_size
        if size and size.height and size.width:
            terminals.set_window_size(master, size.height, size.width)
        elif rows and columns:
            terminals.set_window_size(master, rows, columns)
    return master, slave


def take_streams(streams: Sequence[int], slave: int = -1) -> None:
    """Make these our 0, 1 and 2; or the slave of a terminal all three, which then controls our session."""
    if slave >= 0:
        terminals.control_terminal(slave)
        streams = (slave, slave, slave)
    # A stream may itself be 0, 1 or 2 in another order: first out of the way.
    copies = [os.dup(fd) if fd < 3 else fd for fd in streams]
    for number, fd in enumerate(copies):
        os.dup2(fd, number)


def enter(process: Process, filter: Filter | None) -> tuple[str, dict[str, str]]:
    """Take on directory and identity: (path of the program, its environment).

    Everything from 3 on ends at execve. Limits that we may not raise so far are set as far as we may, and
    nothing is said: only the container's own stderr is in reach here, and it can ask getrlimit(2).
    """
    if not process.args:
        raise StepFailed("exec", errno.EINVAL, "no command")
    fds.close_range(3, on_exec=True)
    entered = True
    try:
        os.chdir(process.cwd or "/")
    except OSError:
        entered = False  # perhaps only the user may
    try:
        apply_identity(process, filter)
    except OSError as error:
        raise StepFailed("identity", error.errno or 0, reason(error)) from error
    except ValueError as error:
        raise StepFailed("identity", 0, str(error)) from error
    try:
        if not entered:
            os.chdir(process.cwd)
        os.getcwd()  # fails for a directory that is not below our root
    except OSError as error:
        text = f'chdir to cwd ("{process.cwd}") set in config.json failed: {_words(error)}'
        raise StepFailed("chdir", error.errno or 0, text) from error
    environ = environment(process)
    return find(process.args[0], environ.get("PATH", "")), environ


def find(name: str, path: str) -> str:
    """Where the program is.

    StepFailed("exec"): ENOENT not found, EACCES not executable, EISDIR a directory.
    """
    if "/" in name:
        try:
            about = os.stat(name)
        except OSError as error:
            text = f'exec: "{name}": stat {name}: {_words(error)}'
            raise StepFailed("exec", error.errno or 0, text) from None
        if stat.S_ISDIR(about.st_mode):
            raise StepFailed("exec", errno.EISDIR, f'exec: "{name}": is a directory: permission denied')
        if not os.access(name, os.X_OK):
            raise StepFailed("exec", errno.EACCES, f'exec: "{name}": permission denied')
        return name
    for candidate in candidates(name, path):
        try:
            is_file = not stat.S_ISDIR(os.stat(candidate).st_mode)
        except OSError:
            continue
        if is_file and os.access(candidate, os.X_OK):
            return candidate
    raise StepFailed("exec", errno.ENOENT, f'exec: "{name}": executable file not found in $PATH')


def execute(path: str, process: Process, environ: dict[str, str], sync: socket.socket | None) -> NoReturn:
    """Become the program.

    The file was found, so the container counts as started: if the kernel will not run it (wrong format, no
    such interpreter), that is said on its own stderr and it ends with 255, as Docker does.
    """
    try:
        os.execve(path, process.args, environ)
    except OSError as error:
        if sync is not None:
            sync.close()
        os.write(2, f"exec {path}: {_words(error)}\n".encode())
    os._exit(255)


def run_below_init(path: str, process: Process, environ: dict[str, str], sync: socket.socket) -> NoReturn:
    """Stay as pid 1: start the program as a child, reap what dies, pass signals on, end with the child's
    code.
    """
    everything = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    # before the program runs, which may look at us; its own name and guard come with its execve
    processes.set_name("skiff-init")
    processes.set_dumpable(False)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpgrp())  # SIGTTOU is still blocked
        processes.default_signals()
        execute(path, process, environ, sync)
    os.chdir("/")
    fds.close_range(3)
    while True:
        number = signal.sigwait(everything)
        if number == signal.SIGCHLD:
            _reap(child)
        else:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            os._exit(processes.exit_code(status)[0])


def _words(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
