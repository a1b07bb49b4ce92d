"""The user's terminal and one container's stream: raw mode (always undone), signals as events, the
pump between.

    stdin ─► detach keys? ─► pending ─► engine          engine ─► Demultiplexer or Raw ─► stdout, stderr

The pump never blocks on sending: a container that echoes more than it reads must not stall both sides.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import select

from skiff.client.connection import READ_SIZE
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, Protocol

    from skiff.client.connection import Stream

    class Sink(Protocol):
        def feed(self, data: bytes | bytearray | memoryview) -> None: ...


DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
STDIN_SIZE = 64 * 1024
ENDED, DETACHED = "ended", "detached"
# Never forwarded: about our own children, pipes and window, or faults of our own.
NOT_PROXIED = {
    _signal.SIGCHLD,
    _signal.SIGPIPE,
    _signal.SIGURG,
    _signal.SIGWINCH,
    _signal.SIGKILL,
    _signal.SIGSTOP,
    _signal.SIGSEGV,
    _signal.SIGBUS,
    _signal.SIGFPE,
    _signal.SIGILL,
    _signal.SIGABRT,
    _signal.SIGTRAP,
    _signal.SIGSYS,
    _signal.SIGPROF,
    _signal.SIGVTALRM,
}
PROXIED = [number for number in range(1, 32) if number not in NOT_PROXIED]


class NoTerminal(InvalidParameter):
    """A terminal was asked for, and there is none."""


def is_terminal(fd: int) -> bool:
    return posix.isatty(fd)


def window_size(fd: int) -> tuple[int, int] | None:
    """(rows, columns); None without a terminal or while its size is unknown."""
    try:
        columns, rows = posix.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


class RawMode:
    """`with RawMode(fd):` every key goes to the container. The old mode comes back whatever happens."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._old: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> RawMode:
        import termios  # most commands have no terminal

        old = termios.tcgetattr(self._fd)
        self._old = old
        new: list[Any] = [part[:] if isinstance(part, list) else part for part in old]
        new[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        new[1] &= ~termios.OPOST
        new[2] = new[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        new[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        new[6][termios.VMIN] = 1
        new[6][termios.VTIME] = 0
        termios.tcsetattr(self._fd, termios.TCSANOW, new)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._old is not None:
            import termios

            termios.tcsetattr(self._fd, termios.TCSANOW, self._old)


class Signals:
    """`with Signals(numbers) as signals:` they arrive in the pump instead of interrupting us."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = list(numbers)
        self._old: list[tuple[int, object]] = []
        self.fd = -1
        self._write = -1

    def __enter__(self) -> Signals:
        self.fd, self._write = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._numbers:
            self._old.append((number, _signal.signal(number, _take_note)))
        return self

    def taken(self) -> list[int]:
        try:
            return list(posix.read(self.fd, 256))
        except BlockingIOError:
            return []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old:
            _signal.signal(number, handler if handler is not None else _signal.SIG_DFL)
        _signal.set_wakeup_fd(-1)
        posix.close(self.fd)
        posix.close(self._write)


def _take_note(number: int, frame: object) -> None:
    """The number is in the wake-up pipe already."""


def detach_keys(text: str) -> bytes:
    r"""ctrl-p,ctrl-q → b"\x10\x11": comma-separated characters, or ctrl- and one of a-z @ [ \ ] ^ _."""
    found = bytearray()
    for key in text.split(","):
        if len(key) == 1:
            found += key.encode("utf-8", "surrogateescape")
            continue
        letter = key.removeprefix("ctrl-")
        if letter == key or len(letter) != 1 or letter not in "abcdefghijklmnopqrstuvwxyz@[\\]^_":
            raise InvalidParameter(f"invalid detach keys provided: Unknown character: '{key}'")
        found.append(ord(letter.upper()) - 64)
    return bytes(found)


class KeySequence:
    """Finds the detach keys in what is typed, over the borders of reads. Keys of a false start are
    passed on.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """(what to send, whether the sequence was completed)."""
        out = bytearray()
        for byte in data:
            held = self._held + bytes((byte,))
            if held == self._keys:
                self._held = b""
                return bytes(out), True
            while held and not self._keys.startswith(held):
                out.append(held[0])
                held = held[1:]
            self._held = held
        return bytes(out), False


def pump(
    stream: Stream,
    sink: Sink | None,
    *,
    stdin: int | None,
    keys: bytes = b"",
    signals: Signals | None = None,
    on_signal: Callable[[int], None] | None = None,
) -> str:
    """Until the engine ends the stream (ENDED) or the detach keys were typed (DETACHED).

    stdin: None sends nothing. sink None: nothing is shown, input only.
    """
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    if signals is not None:
        poll.register(signals.fd, select.POLLIN)
    reading = stdin is not None
    if stdin is not None:
        poll.register(stdin, select.POLLIN)
    sequence = KeySequence(keys) if keys else None
    pending = b""
    buffer = bytearray(READ_SIZE)
    view = memoryview(buffer)
    if stream.early and sink is not None:
        sink.feed(stream.recv(len(stream.early)))
    engine = stream.fileno()
    while True:
        for fd, events in poll.poll():
            if fd == engine:
                if events & select.POLLOUT:
                    pending = pending[stream.send_some(pending) :]
                    if not pending:
                        poll.modify(engine, select.POLLIN)
                        if reading and stdin is not None:
                            poll.register(stdin, select.POLLIN)
                        else:
                            stream.close_write()
                if events & ~select.POLLOUT:
                    try:
                        size = stream.recv_into(buffer)
                    except ConnectionResetError:
                        size = 0
                    if not size:
                        return ENDED
                    if sink is not None:
                        sink.feed(view[:size])
            elif stdin is not None and fd == stdin:
                data = _read(stdin)
                if sequence is not None:
                    data, detached = sequence.filter(data) if data else (data, False)
                    if detached:
                        stream.send_some(data)
                        return DETACHED
                    if not data and sequence.is_holding:
                        continue
                if not data:
                    reading = False
                    poll.unregister(stdin)
                    stream.close_write()
                    continue
                sent = stream.send_some(data)
                if sent < 0:  # the container closed its input; what it says still matters
                    reading = False
                    poll.unregister(stdin)
                elif sent < len(data):
                    pending = data[sent:]
                    poll.unregister(stdin)
                    poll.modify(engine, select.POLLIN | select.POLLOUT)
            elif signals is not None and fd == signals.fd:
                for number in signals.taken():
                    if on_signal is not None:
                        on_signal(number)


def until_readable(fd: int, signals: Signals, on_signal: Callable[[int], None]) -> None:
    """Wait for `fd` while signals go their way: the streams of a container may end before it does."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(signals.fd, select.POLLIN)
    while True:
        ready = [one for one, _ in poll.poll()]
        for number in signals.taken() if signals.fd in ready else []:
            on_signal(number)
        if fd in ready:
            return


def _read(fd: int) -> bytes:
    try:
        return posix.read(fd, STDIN_SIZE)
    except BlockingIOError:
        return b""
    except OSError:  # EIO: our terminal is gone; EBADF: started without a stdin
        return b""
