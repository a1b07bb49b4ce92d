"""The streams of one process: its output to the log and to attached clients, their input to it.

    stdout ─┐                ┌─► log, first and always
    stderr ─┴─► chunk ───────┼─► client: straight into its socket, what does not fit into its queue
                             └─► client …
    client ──► detach keys (terminal only) ──► stdin

No byte is dropped. A client that is slow gets up to QUEUE_LIMIT bytes kept for it; beyond that the process is
read no further until the client catches up, so the process waits, as under Docker. A client that closes is
forgotten at once. With no log and one client, output goes from pipe to socket by splice(2) and is never
copied here.
"""

import errno
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from collections.abc import Sequence
from typing import Final

from skiff.linux import fds, terminals
from skiff.runtime.monitor.logs import LogWriter, NoLog, StreamName
from skiff.runtime.monitor.poller import GONE, READ, WRITE, Poller
from skiff.runtime.protocol import Attach, Stdio

PIPE_SIZE: Final = 1 << 20
CHUNK: Final = 256 * 1024
QUEUE_LIMIT: Final = 1 << 20
INPUT_CHUNK: Final = 64 * 1024
DONT_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

_HEADER: Final = struct.Struct(">BxxxI")
NUMBERS: Final[dict[StreamName, int]] = {"stdout": 1, "stderr": 2}


class Client:
    """One attached socket."""

    __slots__ = ("framed", "gate", "keys", "matched", "outputs", "queue", "queued", "reads", "sock")

    def __init__(self, sock: socket.socket, wish: Attach, *, terminal: bool) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.framed = wish.framed
        self.gate = -1
        self.reads = wish.stdin
        self.outputs = {n for n, on in ((1, wish.stdout), (2, wish.stderr)) if on}
        self.keys = wish.detach_keys.encode("latin-1") if terminal else b""
        self.matched = 0
        self.queue: deque[memoryview] = deque()
        self.queued = 0

    def put(self, data: bytes | memoryview) -> None:
        self.queue.append(memoryview(data))
        self.queued += len(data)

    def send(self, number: int, data: bytes) -> None:
        """Send, or keep what does not fit. OSError when the client is gone."""
        header = _HEADER.pack(number, len(data)) if self.framed else b""
        if self.queue or self.gate >= 0:
            if header:
                self.put(header)
            self.put(data)
            return
        try:
            sent = self.sock.sendmsg((header, data) if header else (data,), (), DONT_WAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(header):
            self.put(header[sent:])
            self.put(data)
        elif sent < len(header) + len(data):
            self.put(memoryview(data)[sent - len(header) :])

    def flush(self) -> None:
        """Send from the queue. OSError when the client is gone."""
        while self.queue and self.gate < 0:
            head = self.queue[0]
            try:
                sent = self.sock.send(head, DONT_WAIT)
            except BlockingIOError:
                return
            self.queued -= sent
            if sent < len(head):
                self.queue[0] = head[sent:]
                return
            self.queue.popleft()

    def without_keys(self, data: bytes) -> tuple[bytes, bool]:
        """(input that is not part of the detach sequence, whether the sequence is complete)."""
        keys = self.keys
        if not keys or (not self.matched and keys[0] not in data):
            return data, False
        out = bytearray()
        for byte in data:
            if byte == keys[self.matched]:
                self.matched += 1
                if self.matched == len(keys):
                    return bytes(out), True
                continue
            out += keys[: self.matched]
            self.matched = int(byte == keys[0])
            if not self.matched:
                out.append(byte)
            elif len(keys) == 1:
                return bytes(out), True
        return bytes(out), False


class Streams:
    """Owns its descriptors: the ends of the pipes that we keep, or the terminal's master (`terminal`)."""

    def __init__(
        self,
        poller: Poller,
        log: LogWriter,
        *,
        terminal: bool = False,
        stdin_once: bool = False,
    ) -> None:
        self.poller = poller
        self.log = log
        self.terminal = terminal
        self.stdin_once = stdin_once
        self.stdin = -1
        self.outputs: dict[int, StreamName] = {}
        self.clients: list[Client] = []
        self.pending = b""
        self.stdin_ends = False
        self.paused = False
        self.finished = False

    def connect(self, stdin: int, stdout: int, stderr: int = -1) -> None:
        """Begin to pump. A terminal gives its master as both stdin and stdout."""
        self.stdin = stdin
        if stdin >= 0:
            os.set_blocking(stdin, False)
        for fd, name in ((stdout, "stdout"), (stderr, "stderr")):
            if fd >= 0:
                os.set_blocking(fd, False)
                self.outputs[fd] = "stdout" if name == "stdout" else "stderr"
        self._watch_outputs()
        if self.pending:
            self._feed(b"")
        self._watch_clients()

    # -- clients -----------------------------------------------------------------------------------------

    def attach(self, sock: socket.socket, wish: Attach, gate: int = -1) -> None:
        """A client joins; from now on it gets everything. gate: it waits until the other end is closed."""
        client = Client(sock, wish, terminal=self.terminal)
        self.clients.append(client)
        if gate >= 0:
            client.gate = gate
            self.poller.watch(gate, READ, lambda got: self._open(client))
            for name, begun in self.log.unfinished().items():
                if begun and NUMBERS[name] in client.outputs:
                    client.send(NUMBERS[name], begun)
        if wish.early and wish.stdin:
            self._input(client, wish.early.encode("latin-1"))
        if client in self.clients:
            self._watch_client(client)

    def _open(self, client: Client) -> None:
        self.poller.forget(client.gate)
        os.close(client.gate)
        client.gate = -1
        if self.finished and not client.queue:
            self.drop(client)
        else:
            self._watch_client(client)

    def _watch_client(self, client: Client) -> None:
        events = WRITE if client.queue and client.gate < 0 else 0
        if client.reads and not self.pending and self.stdin >= 0:
            events |= READ
        self.poller.watch(client.sock.fileno(), events, lambda got: self._on_client(client, got))

    def _on_client(self, client: Client, events: int) -> None:
        try:
            if events & WRITE:
                client.flush()
            if events & READ and client.reads:
                self._receive(client)
                if client not in self.clients:
                    return
            elif events & GONE:
                self.drop(client)
                return
        except OSError:
            self.drop(client)
            return
        if self.finished and not client.queue and client.gate < 0:
            self.drop(client)
            return
        self._watch_client(client)
        self._resume()

    def _receive(self, client: Client) -> None:
        try:
            data = client.sock.recv(INPUT_CHUNK)
        except BlockingIOError:
            return
        if data:
            self._input(client, data)
            return
        client.reads = False
        if self.stdin_once and not self.terminal:
            self.close_stdin()

    def drop(self, client: Client) -> None:
        """Forget a client and end its connection."""
        self.clients.remove(client)
        if client.gate >= 0:
            self.poller.forget(client.gate)
            os.close(client.gate)
        self.poller.forget(client.sock.fileno())
        try:
            client.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was gone already
        client.sock.close()
        self._resume()

    # -- input -------------------------------------------------------------------------------------------

    def _input(self, client: Client, data: bytes) -> None:
        data, left = client.without_keys(data)
        self._feed(data)
        if left:
            self.drop(client)

    def _feed(self, data: bytes) -> None:
        """Write to the process what it takes; the rest waits and its senders with it."""
        self.pending += data
        if self.stdin < 0:
            if self.outputs or self.finished:
                self.pending = b""  # it has no stdin
            return
        while self.pending:
            try:
                written = os.write(self.stdin, self.pending)
            except BlockingIOError:
                break
            except OSError:
                self.pending = b""  # the process closed its stdin
                self._end_stdin()
                return
            self.pending = self.pending[written:]
        if self.terminal:
            self._watch_outputs()
        elif self.pending:
            self.poller.watch(self.stdin, WRITE, self._on_stdin)
        else:
            self.poller.forget(self.stdin)
            if self.stdin_ends:
                self._end_stdin()
        self._watch_clients()

    def _on_stdin(self, events: int) -> None:
        self._feed(b"")

    def _watch_clients(self) -> None:
        for client in self.clients:
            self._watch_client(client)

    def close_stdin(self) -> None:
        """The process sees the end of its input after what is still on its way."""
        if self.terminal or self.stdin < 0:
            return
        self.stdin_ends = True
        if not self.pending:
            self._end_stdin()

    def _end_stdin(self) -> None:
        if self.stdin < 0 or self.terminal:
            return
        self.poller.forget(self.stdin)
        os.close(self.stdin)
        self.stdin = -1

    # -- output ------------------------------------------------------------------------------------------

    def _watch_outputs(self) -> None:
        for fd in self.outputs:
            events = 0 if self.paused else READ
            if self.terminal and self.pending and fd == self.stdin:
                events |= WRITE
            if events:
                self.poller.watch(fd, events, lambda got, fd=fd: self._on_output(fd, got))  # type: ignore[misc]
            else:
                self.poller.forget(fd)  # a closed pipe would be told again and again

    def _resume(self) -> None:
        paused = any(client.queued > QUEUE_LIMIT for client in self.clients)
        if paused != self.paused:
            self.paused = paused
            self._watch_outputs()

    def _on_output(self, fd: int, events: int) -> None:
        if events & WRITE and fd == self.stdin:
            self._feed(b"")
        if events & (READ | GONE) and fd in self.outputs:
            self._pump(fd)
            self._resume()

    def _pump(self, fd: int) -> bool:
        """Move one chunk on; False when nothing is there now, or ever."""
        name = self.outputs[fd]
        number = NUMBERS[name]
        if len(self.clients) == 1 and not self.terminal and isinstance(self.log, NoLog):
            client = self.clients[0]
            ready = not client.queue and client.gate < 0
            if number in client.outputs and ready and self._splice(fd, number, client):
                return True
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose other side is closed
                raise
            data = b""
        if not data:
            self._end_output(fd)
            return False
        self.log.write(name, data)
        for client in tuple(self.clients):
            if number in client.outputs:
                self._send(client, number, data)
        return True

    def _send(self, client: Client, number: int, data: bytes) -> None:
        had = bool(client.queue)
        try:
            client.send(number, data)
        except OSError:
            self.drop(client)
            return
        if client.queue and not had:
            self._watch_client(client)

    def _splice(self, fd: int, number: int, client: Client) -> bool:
        """Move what is in the pipe to the socket without a copy; False if that is not the case for it."""
        (available,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))
        if available < 4096:
            return False
        try:
            if client.framed:
                header = _HEADER.pack(number, available)
                try:
                    sent = client.sock.send(header, DONT_WAIT | socket.MSG_MORE)
                except BlockingIOError:
                    return False
                if sent < len(header):
                    client.put(header[sent:])
            while available and not client.queue:
                available -= os.splice(fd, client.sock.fileno(), available, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            pass
        except OSError:
            self.drop(client)
            return True
        # The frame has been promised: what the socket did not take is kept for it.
        while available:
            data = os.read(fd, available)
            client.put(data)
            available -= len(data)
        if client.queue:
            self._watch_client(client)
        return True

    def _end_output(self, fd: int) -> None:
        del self.outputs[fd]
        self.poller.forget(fd)
        if fd == self.stdin:
            self.stdin = -1
        os.close(fd)

    # -- the end -----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The process has exited: take all it wrote, whatever the clients' queues hold already."""
        for fd in tuple(self.outputs):
            while fd in self.outputs and self._pump(fd):
                pass
            if fd in self.outputs:
                self._end_output(fd)  # somebody else holds the other end; not our process
        self.log.close()
        self._end_stdin()
        self.stdin = -1
        self.pending = b""

    def finish(self) -> None:
        """After drain: end every client's connection once it has got everything."""
        self.finished = True
        for client in tuple(self.clients):
            client.reads = False
            if client.queue or client.gate >= 0:
                self._watch_client(client)
            else:
                self.drop(client)

    def resize_fd(self) -> int:
        """The terminal's master; OSError ENOTTY if there is none (any more)."""
        if not self.terminal or self.stdin < 0:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return self.stdin


def pipes(*, stdin: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(ends for the process, our ends): stdin, stdout, stderr.

    Without stdin the process gets /dev/null, we -1.
    """
    if stdin:
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
    else:
        stdin_read, stdin_write = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), -1
    stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
    stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
    fds.widen_pipe(stdout_read, PIPE_SIZE)
    return (stdin_read, stdout_write, stderr_write), (stdin_write, stdout_read, stderr_read)


def channels(stdio: Stdio) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """As pipes; -1 for all where there will be a terminal."""
    if stdio.terminal:
        return (-1, -1, -1), (-1, -1, -1)
    return pipes(stdin=stdio.stdin)


def connect(streams: Streams, ours: Sequence[int], master: int, stdio: Stdio) -> None:
    """Join our ends, or the master of the terminal, which gets its size."""
    if not stdio.terminal:
        streams.connect(*ours)
        return
    if stdio.size and stdio.size.height and stdio.size.width:
        terminals.set_window_size(master, stdio.size.height, stdio.size.width)
    streams.connect(master, master)
