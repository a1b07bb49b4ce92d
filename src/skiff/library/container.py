"""A container in the hands of a program: run to its end, or kept running, entered, read from, removed."""

import base64
import io
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import IO, Any

from msgspec import Struct, json

from skiff.client.bulk import FilePart
from skiff.client.connection import EngineError, Stream
from skiff.client.engine import EngineClient
from skiff.docker import stdcopy
from skiff.errors import InvalidParameter, NotFound, SkiffError
from skiff.library import tars
from skiff.library.options import variables, words

Input = str | bytes | IO[bytes] | Iterable[bytes]
Instant = str | float


class Finished(Struct, frozen=True):
    """What a command came to. stdout, stderr: all it wrote; with a terminal everything is in stdout."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """Its stdout as text, UTF-8."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> "Finished":
        """Itself. Raises ContainerFailed when the exit code is not 0."""
        if self.exit_code:
            raise ContainerFailed(self)
        return self


class ContainerFailed(SkiffError):
    """A command ended with another code than 0. `finished` has the code and what it wrote."""

    def __init__(self, finished: Finished) -> None:
        said = finished.stderr or finished.stdout
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        super().__init__(f"exit code {finished.exit_code}" + (f": {last}" if last else ""))
        self.finished = finished


class Container:
    """One container, by its id. A `with` block removes it at its end, running or not.

    >>> with skiff.start("busybox", ["sleep", "60"], hostname="box") as box:
    ...     print(box.exec(["hostname"]).text)
    box
    <BLANKLINE>
    """

    def __init__(self, client: Callable[[], EngineClient], id: str) -> None:
        self._client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<Container {self.id[:12]}>"

    def __enter__(self) -> "Container":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove(force=True, missing_ok=True)

    # -- what it is --------------------------------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        """All that the engine knows, as Docker's API spells it. Raises EngineError (404 when it is gone)."""
        return self._client().container(self.id)

    @property
    def name(self) -> str:
        return str(self.inspect()["Name"]).removeprefix("/")

    @property
    def status(self) -> str:
        """created, running, paused, restarting, removing, exited or dead."""
        return str(self.inspect()["State"]["Status"])

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and before its first start."""
        state = self.inspect()["State"]
        ended = state["Status"] in ("exited", "dead")
        return int(state["ExitCode"]) if ended else None

    def address(self, network: str = "") -> str:
        """Its IPv4 address in that network, or in the first of its networks; "" when it has none."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        if network:
            return str((networks.get(network) or {}).get("IPAddress") or "")
        return next((str(found["IPAddress"]) for found in networks.values() if found.get("IPAddress")), "")

    def port(self, inner: int | str) -> tuple[str, int] | None:
        """Where a port of it is published: (host address, host port); None when it is not."""
        key = str(inner) if "/" in str(inner) else f"{inner}/tcp"
        found = (self.inspect()["NetworkSettings"]["Ports"] or {}).get(key)
        return (found[0]["HostIp"], int(found[0]["HostPort"])) if found else None

    # -- what it does ------------------------------------------------------------------------------------

    def start(self) -> None:
        self._client().start_container(self.id)

    def stop(self, timeout: int | None = None) -> None:
        """SIGTERM (or its stop signal), then SIGKILL after `timeout` seconds; None: as it was created."""
        self._client().stop_container(self.id, timeout=timeout)

    def kill(self, signal: str = "KILL") -> None:
        self._client().kill_container(self.id, signal=signal)

    def restart(self, timeout: int | None = None) -> None:
        self._client().restart_container(self.id, timeout=timeout)

    def pause(self) -> None:
        self._client().pause_container(self.id)

    def unpause(self) -> None:
        self._client().unpause_container(self.id)

    def wait(self) -> int:
        """Until it has ended; its exit code."""
        return int(self._client().wait_container(self.id).json()["StatusCode"])

    def remove(self, *, force: bool = False, volumes: bool = False, missing_ok: bool = False) -> None:
        """force: even while it runs. volumes: its anonymous volumes, too."""
        try:
            self._client().remove_container(self.id, force=force, volumes=volumes)
        except EngineError as error:
            if error.status != 404 or not missing_ok:
                raise

    def exec(
        self,
        command: str | Sequence[str],
        *,
        input: Input | None = None,
        env: Mapping[str, str | None] | None = None,
        user: str = "",
        workdir: str = "",
        privileged: bool = False,
        check: bool = True,
    ) -> Finished:
        """A further command in it, to its end. Raises ContainerFailed unless check=False.

        input: its stdin: bytes, text, an open file, or pieces.
        """
        client = self._client()
        wish = {
            "Cmd": words(command),
            "AttachStdin": input is not None,
            "AttachStdout": True,
            "AttachStderr": True,
            "Env": variables(env or {}),
            "User": user,
            "WorkingDir": workdir,
            "Privileged": privileged,
        }
        id = client.create_exec(self.id, wish)
        stdout, stderr = collected(client.start_exec(id, tty=False), input, tty=False)
        done = Finished(int(client.exec(id)["ExitCode"]), stdout, stderr)
        return done.check() if check else done

    # -- what it wrote -----------------------------------------------------------------------------------

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: Instant | None = None,
        until: Instant | None = None,
        timestamps: bool = False,
    ) -> Iterator[str]:
        """Its lines so far, stdout and stderr as they came; with follow, until it ends.

        since, until: Unix seconds, or an instant as RFC 3339 writes it.
        """
        client = self._client()
        tty = bool(self.inspect()["Config"]["Tty"])
        reply = client.container_logs(
            self.id,
            follow=follow,
            since=unix_time(since),
            until=unix_time(until),
            timestamps=timestamps,
            tail="all" if tail is None else str(tail),
        )
        try:
            held = {1: b"", 2: b""}
            for stream, data in frames(reply.chunks(), tty=tty):
                *whole, held[stream] = (held[stream] + data).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
            yield from (rest.decode("utf-8", "replace") for rest in held.values() if rest)
        finally:
            reply.close()

    # -- its files ---------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes:
        """One file of it. Raises EngineError (404), NotFound for what is no plain file."""
        reply = self._client().get_archive(self.id, path)
        with tarfile.open(fileobj=io.BytesIO(reply.read())) as archive:
            first = archive.next()
            file = archive.extractfile(first) if first is not None and first.isfile() else None
            if file is None:
                raise NotFound(f"{path} is not a plain file")
            return file.read()

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Put a file into it; its directory must be there. Owned by root."""
        folder, _, name = path.rpartition("/")
        self.put(folder or "/", {name: data}, mode=mode)

    def put(
        self,
        folder: str,
        files: Mapping[str, bytes | str | None],
        *,
        mode: int = 0o644,
        folder_mode: int = 0o755,
    ) -> None:
        """Several files below a directory of it: relative path → contents; None makes a directory."""
        self.put_tar(folder, tars.packed(files, mode=mode, folder_mode=folder_mode))

    def put_tar(self, folder: str, source: tars.Source) -> None:
        """Unpack a tar in a directory of it: a file's, an open file's, or in pieces; sent as it is read."""
        self._client().put_archive(self.id, folder, tars.sent(source))

    def get_tar(self, path: str, target: tars.Target) -> None:
        """A file or directory of it as a tar, into a file or an open file, written as it comes."""
        tars.kept(self._client().get_archive(self.id, path), target)

    def export(self, target: tars.Target) -> None:
        """All its files as one tar, as get_tar() writes it."""
        tars.kept(self._client().export_container(self.id), target)

    def exists(self, path: str) -> bool:
        try:
            return bool(json.decode(base64.b64decode(self._client().path_stat(self.id, path) or b"e30=")))
        except EngineError as error:
            if error.status != 404:
                raise
            return False

    # -- how it is used ----------------------------------------------------------------------------------

    def usage(self) -> dict[str, Any]:
        """One reading of its control group, as Docker's /stats gives it."""
        return next(iter(self._client().container_stats(self.id, one_shot=True)))

    def commit(self, repository: str, tag: str = "latest") -> str:
        """Its changes as an image; the image's id."""
        return str(self._client().commit_container(self.id, {}, repo=repository, tag=tag)["Id"])


def unix_time(instant: Instant | None) -> str | None:
    """As the API takes it. Raises InvalidParameter.

    >>> unix_time("2024-01-01T00:00:00Z"), unix_time(1.5)
    ('1704067200.000000000', '1.500000000')
    """
    if instant is None:
        return None
    try:
        seconds = datetime.fromisoformat(instant).timestamp() if isinstance(instant, str) else instant
    except ValueError as error:
        raise InvalidParameter(f"expected Unix seconds or an RFC 3339 instant, not {instant!r}") from error
    return f"{seconds:.9f}"


def frames(chunks: Iterator[bytes], *, tty: bool) -> Iterator[tuple[int, bytes]]:
    """(1 stdout or 2 stderr, bytes) of a container's stream; a terminal has stdout alone."""
    if tty:
        yield from ((1, data) for data in chunks)
        return
    held = bytearray()
    for data in chunks:
        held += data
        whole, taken = stdcopy.split(held)
        del held[:taken]
        yield from whole


def collected(
    stream: Stream,
    input: Input | None,
    *,
    tty: bool,
    tell: Callable[[int, bytes], None] | None = None,
) -> tuple[bytes, bytes]:
    """All that comes, stdout and stderr apart, while `input` is sent. tell: is given each piece instead.

    An input that fails while it is read ends the command's stdin, and is raised here.
    """
    writer: threading.Thread | None = None
    failed: list[Exception] = []
    if input is not None:
        pieces = tars.sent(input.encode() if isinstance(input, str) else input)
        writer = threading.Thread(target=_send, args=(stream, pieces, failed), daemon=True)
        writer.start()
    parts: dict[int, list[bytes]] = {1: [], 2: []}
    try:
        for number, piece in frames(_received(stream), tty=tty):
            if tell is not None:
                tell(number, piece)
            else:
                parts[2 if number == 2 else 1].append(piece)
    finally:
        stream.close()
        if writer is not None:
            writer.join()
    if failed:
        raise failed[0]
    return b"".join(parts[1]), b"".join(parts[2])


def _received(stream: Stream) -> Iterator[bytes]:
    while data := stream.recv():
        yield data


def _send(stream: Stream, pieces: Iterator[bytes | FilePart], failed: list[Exception]) -> None:
    try:
        while (piece := _next(pieces, failed)) is not None:
            stream.sendall(piece)
        stream.close_write()
    except OSError:
        pass  # it reads no more: what it wrote is what counts


def _next(pieces: Iterator[bytes | FilePart], failed: list[Exception]) -> bytes | None:
    try:
        piece = next(pieces, None)
        if piece is None or isinstance(piece, bytes):
            return piece
        raise InvalidParameter(f"expected bytes as input, not {type(piece).__name__}")
    except Exception as error:
        failed.append(error)
        return None
