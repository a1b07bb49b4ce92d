"""OCI hooks: programs run at a moment of a container's life, with its State as JSON on their stdin.

runtime-spec 1.2, config.md § POSIX-platform Hooks. A hook that fails stops what was going on, except
poststart and poststop: those are the caller's to report.
"""

import errno
import os
import select
import signal
from collections.abc import Sequence

from msgspec import json

from skiff.linux import fds, processes
from skiff.oci.runtime import Hook, State
from skiff.runtime.isolation.handshake import StepFailed


def run(moment: str, hooks: Sequence[Hook], state: State) -> None:
    """Run them one after the other.

    StepFailed at the first that exits with anything but 0, or takes too long.
    """
    for hook in hooks:
        _run_one(f"hook {moment} {hook.path}", hook, json.encode(state))


def _run_one(step: str, hook: Hook, state: bytes) -> None:
    stdin = fds.memory_file("state", state)
    said = fds.memory_file("stderr")
    pid, pidfd = processes.clone()
    if pid == 0:
        _become(hook, stdin, said)
    os.close(stdin)
    try:
        timeout = None if hook.timeout is None else hook.timeout * 1000
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        late = not poll.poll(timeout)
        if late:
            processes.pidfd_signal(pidfd, signal.SIGKILL)
        code, _ = processes.exit_code(processes.reap(pid))
        if late:
            raise StepFailed(step, errno.ETIMEDOUT, f"no end after {hook.timeout} s")
        if code:
            text = os.pread(said, 500, 0).decode(errors="replace").strip()
            raise StepFailed(step, text=f"exit status {code}: {text}" if text else f"exit status {code}")
    finally:
        os.close(pidfd)
        os.close(said)


def _become(hook: Hook, stdin: int, said: int) -> None:
    try:
        processes.default_signals()
        os.dup2(stdin, 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        fds.close_range(3, on_exec=True)
        environment = dict(entry.partition("=")[::2] for entry in hook.env)
        os.execve(hook.path, hook.args or (hook.path,), environment)
    except BaseException as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(127)
