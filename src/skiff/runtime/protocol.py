"""Messages engine ↔ zygote ↔ monitor: the only door into the runtime.

Every packet of a SOCK_SEQPACKET unix socket is one JSON message; file descriptors ride along (SCM_RIGHTS).

    engine ──Create + fds──► zygote ──fork──► monitor ──spawn──► init
       │                                         │
       └──── control channel (one per container)─┘
             requests:  Start Signal Freeze Thaw Resize Attach Exec CloseStdin Update Delete (each has `seq`)
             answers:   Reply(seq, error?), one per request
             news:      Created | Failed · Oom · Exited · ExecExited, unasked

The engine makes a socket pair per container, keeps one end as the control channel and sends the other with
Create. The monitor also listens on <bundle>/monitor.sock, where the next engine connects: it is sent a Status
first, then the same requests, answers and news. A monitor serves one engine at a time: the newest.

A monitor whose process has exited writes status.json (a Status) into the bundle before it sends Exited, then
stays until Delete, or leaves by itself if no engine is connected; a later engine reads the file.
"""

from msgspec import Struct, json

from skiff.oci.runtime import ConsoleSize, Mount, Process, Resources

MAX_PACKET = 64 * 1024


class Message(Struct, frozen=True, tag_field="t", omit_defaults=True, kw_only=True):
    """Base of all. On the wire: a JSON object whose `t` names the class."""


class StepError(Struct, frozen=True, omit_defaults=True):
    """Where a start or an exec stopped.

    step: `mount /proc`, `exec`; errno: 0 if it was no system call; text: the rest, one sentence.
    """

    step: str
    errno: int = 0
    text: str = ""


class LogConfig(Struct, frozen=True, omit_defaults=True):
    """driver: json-file, local or none. max_size in bytes, 0 for no limit."""

    driver: str = "json-file"
    path: str = ""
    max_size: int = 0
    max_file: int = 1
    compress: bool = False
    attributes: dict[str, str] = {}


class Stdio(Struct, frozen=True, omit_defaults=True):
    """How the streams of a process are kept.

    terminal: one pseudo-terminal for all three. stdin: keep a stdin pipe open (else /dev/null).
    stdin_once: close it when the first attached client ends its input.
    """

    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    size: ConsoleSize | None = None
    log: LogConfig | None = None


# -- to the zygote ---------------------------------------------------------------------------------------


class Create(Message, frozen=True, kw_only=True):
    """Fork a monitor and make a container, ready but not started.

    bundle: directory with config.json (an OCI Spec); rootfs: mounts that make up the root, in order, at
    <bundle>/rootfs, seen only inside the container (empty: Spec.root.path is ready as it is).
    runtime: empty for our own isolation, else a runc-compatible program with its leading arguments.
    init: run the command below a small init of ours that reaps and forwards signals (`--init`).
    trace: file in the bundle to which each step is appended until the start (linux/watching.py), or "".
    fds: [control channel] — the monitor's end.
    """

    id: str
    bundle: str
    rootfs: tuple[Mount, ...] = ()
    stdio: Stdio = Stdio()
    runtime: tuple[str, ...] = ()
    init: bool = False
    trace: str = ""


class Quit(Message, frozen=True, kw_only=True):
    """End the zygote. Monitors stay."""


# -- engine → monitor ------------------------------------------------------------------------------------


class Request(Message, frozen=True, kw_only=True):
    """trace: as in Create, for this request."""

    seq: int = 0
    trace: str = ""


class Start(Request, frozen=True, kw_only=True):
    """Let init run the container's command. Answered when execve has succeeded or failed (Reply.error).

    ESRCH when init has ended before: Exited has told how.
    """


class Signal(Request, frozen=True, kw_only=True):
    """Send a signal to init, or to every process of the container, or to one exec."""

    number: int
    everyone: bool = False
    exec_id: str = ""


class Freeze(Request, frozen=True, kw_only=True):
    """Stop all processes by the freezer cgroup. Answered once all are frozen."""


class Thaw(Request, frozen=True, kw_only=True):
    """Undo Freeze."""


class Resize(Request, frozen=True, kw_only=True):
    """Set the window size of init's terminal, or of an exec's."""

    rows: int
    columns: int
    exec_id: str = ""


class Attach(Request, frozen=True, kw_only=True):
    """Join a client's socket to the streams. fds: [socket], or [socket, gate].

    With a gate the client gets its output only once the gate's other end is closed; what had been logged
    before is not part of it, and ends before Reply.time. So logs can be replayed without loss or repetition.

    early: bytes of stdin the engine had already read (latin-1 text). detach_keys: latin-1 text of the
    sequence that leaves; seen only on a terminal. exec_id: attach to that exec instead of init.
    framed: output carries the 8-byte header of skiff.docker.stdcopy.
    When the last stream ends or the process exits the monitor shuts the socket down.
    """

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    framed: bool = True
    detach_keys: str = ""
    early: str = ""
    exec_id: str = ""


class Exec(Request, frozen=True, kw_only=True):
    """Run a further process. fds: [socket] when attached, else none; flags as in Attach.

    The process is read from `process_file` (JSON, beside config.json, removed by the monitor) when it is
    given, else from `process`. Answered when execve has succeeded (Reply.pid) or failed (Reply.error).
    """

    exec_id: str
    process: Process | None = None
    process_file: str = ""
    stdio: Stdio = Stdio()
    attach: Attach | None = None


class CloseStdin(Request, frozen=True, kw_only=True):
    """Close the stdin of init."""


class Update(Request, frozen=True, kw_only=True):
    """Change limits while running."""

    resources: Resources


class Processes(Request, frozen=True, kw_only=True):
    """Answered with Reply.pids: host pids of all processes in the container."""


class Delete(Request, frozen=True, kw_only=True):
    """Remove cgroups and live files after the exit; the monitor then leaves. force: kill it first."""

    force: bool = False


# -- monitor → engine ------------------------------------------------------------------------------------


class Reply(Message, frozen=True, kw_only=True):
    """Answer to the request of that seq. error: None when it went well. time: see Attach."""

    seq: int
    error: StepError | None = None
    pid: int = 0
    pids: tuple[int, ...] = ()
    time: int = 0


class Created(Message, frozen=True, kw_only=True):
    """The container exists and waits for Start. pid: init's, in the host's pid namespace."""

    pid: int
    monitor_pid: int = 0


class Failed(Message, frozen=True, kw_only=True):
    """Create did not succeed; everything made so far is gone again and the monitor leaves."""

    error: StepError


class Oom(Message, frozen=True, kw_only=True):
    """The kernel killed a process of the container for want of memory."""


class Exited(Message, frozen=True, kw_only=True):
    """Init has exited and all its output is in the log and at the clients.

    code: 0–255, 128+n for signal n. started (0 when it has not begun), finished: ns since the epoch.
    """

    code: int
    signal: int = 0
    oom_killed: bool = False
    started: int = 0
    finished: int = 0


class ExecExited(Message, frozen=True, kw_only=True):
    exec_id: str
    code: int


class Status(Message, frozen=True, kw_only=True):
    """What a monitor tells a newly connected engine; also the content of status.json."""

    id: str
    pid: int = 0
    monitor_pid: int = 0
    started: int = 0
    running: bool = False
    paused: bool = False
    exited: Exited | None = None
    execs: tuple[str, ...] = ()


ToZygote = Create | Quit
ToMonitor = Start | Signal | Freeze | Thaw | Resize | Attach | Exec | CloseStdin | Update | Processes | Delete
ToEngine = Reply | Created | Failed | Oom | Exited | ExecExited | Status

_encoder = json.Encoder()
_to_zygote = json.Decoder(ToZygote)
_to_monitor = json.Decoder(ToMonitor)
_to_engine = json.Decoder(ToEngine)

encode = _encoder.encode
decode_for_zygote = _to_zygote.decode
decode_for_monitor = _to_monitor.decode
decode_for_engine = _to_engine.decode
