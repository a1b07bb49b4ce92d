"""Parent side: prepare the cgroup, clone init, hand over what it needs, run the hooks.

For a monitor (keeps the Container and starts it by `start`) and for a plain `skiff-oci create` alike: that one
passes its own gate and report descriptors (FIFOs) and exits; `skiff-oci start` writes one byte to the gate.
"""

from collections.abc import Sequence

from msgspec import Struct

from skiff.oci.runtime import Mount, Spec
from skiff.runtime.protocol import StepError


class StepFailed(Exception):
    """A step of a start did not work."""

    def __init__(self, error: StepError) -> None:
        super().__init__(f"{error.step}: {error.text}")
        self.error = error


class Streams(Struct, frozen=True, kw_only=True):
    """Descriptors init gets as 0, 1, 2 (dup'ed; the caller closes its copies after create).

    console: a connected unix stream socket; the terminal's master is sent over it (SCM_RIGHTS), as runc's
    --console-socket. Needs process.terminal; then stdin, stdout, stderr are not used.
    """

    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    console: int = -1


class Container(Struct, kw_only=True):
    """A created container: init is set up and waits at the gate.

    pid in our pid namespace; pidfd; sync: our end of the handshake socket (-1 when own gate was given).
    master: the terminal's master when no console socket was given, else -1. cgroup: its path below the hierarchies.
    """

    pid: int
    pidfd: int
    sync: int = -1
    master: int = -1
    cgroup: str = ""


def create(
    *,
    id: str,
    bundle: str,
    spec: Spec,
    streams: Streams,
    rootfs: Sequence[Mount] = (),
    init: bool = False,
    gate: int = -1,
    report: int = -1,
    seccomp_program: bytes | None = None,
) -> Container:
    """Make the container; StepFailed with everything undone when a step fails.

    gate: descriptor init reads one byte from before its execve; report: where it writes a StepError as JSON if
    execve fails (closed on success). Both -1: the handshake socket does both, see start().
    seccomp_program: compiled from spec.linux.seccomp by the caller (cached there), else compiled here.
    """
    raise NotImplementedError


def start(container: Container, spec: Spec, *, id: str, bundle: str) -> None:
    """Open the gate; returns once execve has succeeded, poststart hooks included. StepFailed."""
    raise NotImplementedError
