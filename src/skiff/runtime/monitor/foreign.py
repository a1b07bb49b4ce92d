"""Another OCI runtime — any program that takes runc's commands — as the isolation of a container.

    monitor (subreaper, in a mount namespace of its own, the root mounted at <bundle>/rootfs)
       ├─ PROGRAM create --bundle … --pid-file …  ─► init, which becomes our child when the program ends
       └─ PROGRAM start | kill | pause | resume | exec --detach | update | delete

The program's own state lies in <bundle>/foreign. Without a terminal init inherits our pipes from it; with
one it sends the master over --console-socket. What it says in its log is what the engine is told.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
from collections.abc import Sequence
from typing import Any, Final

from msgspec import DecodeError, Struct, json, structs

from skiff.errors import SkiffError
from skiff.linux import cgroups, fds, mounts, namespaces, processes, safepath
from skiff.oci.runtime import Process, Resources, Spec
from skiff.runtime.isolation import join
from skiff.runtime.isolation.create import Container, Streams, own_streams
from skiff.runtime.isolation.handshake import StepFailed, step_failed
from skiff.runtime.isolation.rootfs import open_root
from skiff.runtime.protocol import Create

CONSOLE_MS: Final = 10_000
SPOKEN: Final = "1.0.2"  # older programs refuse what says it is newer, though they know all its fields
# What execve would have said, found in the sentences of runc and crun.
_NOT_FOUND: Final = ("executable file not found", "no such file or directory", "executable file `")
_REFUSED: Final = ("permission denied", "is a directory", "exec format error")
_Said = json.Decoder(dict[str, Any])


class Foreign:
    """See Driver."""

    container: Container

    def __init__(self, wish: Create, spec: Spec, *, here: cgroups.Layout) -> None:
        self.wish = wish
        self.spec = spec
        self.root = f"{wish.bundle}/rootfs"
        self.state = f"{wish.bundle}/foreign"
        # The same hierarchies that the program finds: a hybrid machine is shown to it as v1 alone.
        self.here = here if here.version == 2 else cgroups.Layout(here.v1, "", frozenset())
        self.hidden = here.v2 if here.version == 1 else ""
        self.wake = -1

    # -- verbs -------------------------------------------------------------------------------------------

    def create(self, streams: Streams) -> Container:
        if self.wish.init:
            raise StepFailed("init", text=f"an init is not available with the runtime {self.wish.runtime[0]}")
        if self.spec.linux is None or self.spec.process is None:
            raise StepFailed("config.json", text="a spec needs `process` and `linux`")
        processes.become_subreaper()
        try:
            group = cgroups.existing(self.here, self.spec.linux.cgroups_path or f"/{self.wish.id}")
        except SkiffError as error:
            raise StepFailed("cgroup", text=str(error)) from error
        with step_failed("private mounts"):
            os.makedirs(self.state, mode=0o700, exist_ok=True)
            namespaces.unshare(namespaces.CLONE_NEWNS)
            mounts.set_propagation("/", mounts.MS_SLAVE | mounts.MS_REC)
            if self.hidden:
                mounts.unmount(self.hidden)
        self._mount_root()
        self._complete_bundle()
        own_streams(streams, self.spec.process, self.spec.linux.uid_mappings)
        pid_file = f"{self.state}/init.pid"
        arguments = ["create", "--bundle", self.wish.bundle, "--pid-file", pid_file]
        try:
            master = self._spawned(arguments, [], streams, terminal=self.spec.process.terminal)
            pid = _read_pid(pid_file)
        except BaseException:
            with contextlib.suppress(StepFailed):
                self._run("delete", "--force")
            self._sweep()
            raise
        owns_pids = any(n.type == "pid" and not n.path for n in self.spec.linux.namespaces)
        self.container = Container(
            pid=pid, pidfd=os.pidfd_open(pid), sync=None, group=group, master=master, owns_pids=owns_pids
        )
        return self.container

    def start(self) -> None:
        self._run("start")

    def abandon(self) -> None:
        self._run("delete", "--force")
        with contextlib.suppress(ChildProcessError):
            processes.reap(self.container.pid)

    def signal(self, number: int, *, everyone: bool = False) -> None:
        self._run("kill", *(("--all",) if everyone else ()), after=(str(int(number)),))

    def freeze(self) -> None:
        self._run("pause")

    def thaw(self) -> None:
        self._run("resume")

    def exec(self, process: Process, streams: Streams) -> join.Joined:
        own_streams(streams, process, self.spec.linux.uid_mappings if self.spec.linux else ())
        number = len(os.listdir(self.state))
        file, pid_file = f"{self.state}/exec-{number}.json", f"{self.state}/exec-{number}.pid"
        try:
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as target:
                target.write(json.encode(_complete(process)))
            arguments = ["exec", "--detach", "--process", file, "--pid-file", pid_file]
            master = self._spawned(arguments, [], streams, terminal=process.terminal)
            pid = _read_pid(pid_file)
            return join.Joined(pid, os.pidfd_open(pid), master)
        finally:
            for path in (file, pid_file):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def update(self, resources: Resources) -> None:
        body = fds.memory_file("resources", json.encode(_complete(resources)))
        try:
            self._run("update", "--resources", "/dev/stdin", stdin=body)
        finally:
            os.close(body)

    def pids(self) -> tuple[int, ...]:
        return tuple(self.container.group.pids())

    def clean(self) -> None:
        """The program's own memory of the container goes, and with it the cgroups and the root."""
        try:
            self._run("delete", "--force")
        finally:
            self._sweep()

    def deleted(self) -> None:
        """Nothing: its poststop hooks ran at its own `delete`."""

    def reap_strays(self, ours: Sequence[int]) -> None:
        """Take away orphans that came to us, except the processes somebody waits for."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return
            processes.reap(found.si_pid)

    def _complete_bundle(self) -> None:
        """Our config.json leaves out what has its default; other programs want some of that said."""
        path = f"{self.wish.bundle}/config.json"
        with step_failed("config.json"), open(f"{path}.new", "wb") as file:
            file.write(json.encode(_complete(self.spec) | {"ociVersion": SPOKEN}))
        os.rename(f"{path}.new", path)

    # -- the program -------------------------------------------------------------------------------------

    def _mount_root(self) -> None:
        if not self.wish.rootfs:
            return
        with step_failed("mount root"):
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            tree = open_root(self.wish.rootfs, self.root)
            try:
                mounts.attach(tree, self.root)
            finally:
                os.close(tree)

    def _spawned(self, before: list[str], after: list[str], streams: Streams, *, terminal: bool) -> int:
        """Run a command that leaves a process behind; the master of its terminal, or -1."""
        if not terminal:
            self._command([*before, self.wish.id, *after], streams)
            return -1
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        directory = os.open(self.state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # The address of a socket holds 107 bytes; through us the way to the bundle is short.
            path = f"/proc/{os.getpid()}/fd/{directory}/console"
            listener.bind(f"{safepath.fd_path(directory)}/console")
            listener.listen(1)
            quiet = Streams(stdin=nothing, stdout=nothing, stderr=nothing)
            self._command([*before, "--console-socket", path, self.wish.id, *after], quiet)
            return _receive_master(listener)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink("console", dir_fd=directory)
            listener.close()
            fds.close_all([nothing, directory])

    def _run(self, command: str, *options: str, after: Sequence[str] = (), stdin: int = -1) -> None:
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            streams = Streams(stdin=nothing if stdin < 0 else stdin, stdout=nothing, stderr=nothing)
            self._command([command, *options, self.wish.id, *after], streams)
        finally:
            os.close(nothing)

    def _command(self, words: list[str], streams: Streams) -> None:
        """Run the program to its end. StepFailed with what it said in its log."""
        log = f"{self.state}/log"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)
        program, *leading = self.wish.runtime
        arguments = [program, *leading, "--root", f"{self.state}/root", "--log", log, "--log-format", "json"]
        try:
            pid = os.posix_spawnp(
                program,
                [*arguments, *words],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams.numbers)],
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ),
            )
        except OSError as error:
            text = f"{program}: {os.strerror(error.errno or 0)}"
            raise StepFailed("runtime", error.errno or 0, text) from error
        code, _ = processes.exit_code(processes.reap(pid))
        if code:
            raise _failure(os.path.basename(program), words[0], code, _last_error(log))

    def _sweep(self) -> None:
        if self.wish.rootfs:
            with contextlib.suppress(OSError):  # never mounted, or in use by what did not end
                mounts.unmount(self.root)
        shutil.rmtree(self.state, ignore_errors=True)


def _complete(value: object) -> Any:
    """A structure of the spec as JSON will have it, with every field that has a value, the default or not."""
    if isinstance(value, Struct):
        found = ((f.encode_name, getattr(value, f.name)) for f in structs.fields(value))
        return {name: _complete(v) for name, v in found if v is not None and v != () and v != {} and v != ""}
    if isinstance(value, tuple):
        return [_complete(item) for item in value]
    return value


def _failure(program: str, command: str, code: int, said: str) -> StepFailed:
    if command in ("create", "start", "exec"):
        lower = said.lower()
        if "exec" in lower and any(words in lower for words in _NOT_FOUND):
            return StepFailed("exec", 2, _with_words(said, "executable file not found", "no such file"))
        if "exec" in lower and any(words in lower for words in _REFUSED):
            return StepFailed("exec", 13, _with_words(said, "permission denied", "is a directory"))
    if command == "kill" and ("not running" in said or "No such process" in said or "finished" in said):
        return StepFailed("signal", 3, said)
    return StepFailed(f"{program} {command}", text=said or f"exit status {code}")


def _with_words(said: str, *words: str) -> str:
    """Clients look for Docker's own words to choose their exit code."""
    return said if any(word in said for word in words) else f"{said}: {words[0]}"


def _last_error(path: str) -> str:
    """The last message of level error or fatal in a log of JSON lines, or its last line."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            said = _Said.decode(line)
        except DecodeError:
            continue
        if said.get("level") in ("error", "fatal"):
            return str(said.get("msg", ""))
    return lines[-1].decode(errors="replace") if lines else ""


def _read_pid(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (FileNotFoundError, ValueError) as error:
        raise StepFailed("runtime", text="it wrote no pid file") from error


def _receive_master(listener: socket.socket) -> int:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if not poll.poll(CONSOLE_MS):
        raise StepFailed("runtime", 110, "it sent no terminal")
    sender, _ = listener.accept()
    with sender:
        _, riders = fds.recv_packet(sender, 4096)
    if not riders:
        raise StepFailed("runtime", text="it sent no terminal")
    fds.close_all(riders[1:])
    return riders[0]
