"""Execs as the Engine API spells them. Pure.

Engine API 1.51: ExecCreate, ExecStart, ExecInspect.
"""

from msgspec import UNSET, UnsetType, field

from skiff.docker.wire import Wire


class ExecCreate(Wire, frozen=True):
    """Body of POST /containers/{id}/exec. console_size: [height, width]."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, ...] | None = None
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] | None = None
    working_dir: str = ""
    cmd: tuple[str, ...] | None = None


class ExecStart(Wire, frozen=True):
    """Body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, ...] | None = None


class ExecProcess(Wire, frozen=True, rename=None):
    """The command of an exec; lower case on the wire."""

    arguments: tuple[str, ...] = ()
    entrypoint: str = ""
    privileged: bool = False
    tty: bool = False
    user: str | UnsetType = UNSET


class ExecInspect(Wire, frozen=True):
    """GET /exec/{id}/json. exit_code: None until it has exited; pid: in the host's namespace."""

    id: str = field(name="ID", default="")
    running: bool = False
    exit_code: int | None = None
    process_config: ExecProcess = ExecProcess()
    open_stdin: bool = False
    open_stderr: bool = False
    open_stdout: bool = False
    can_remove: bool = False
    container_id: str = field(name="ContainerID", default="")
    detach_keys: str = ""
    pid: int = 0
