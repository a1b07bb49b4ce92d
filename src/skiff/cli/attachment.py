"""One container's streams joined to this terminal: what `run`, `start -a`, `attach` and `exec` share."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import sys

from skiff.cli import terminal
from skiff.client.connection import EngineError
from skiff.client.streams import Demultiplexer, Raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from skiff.cli.session import Session
    from skiff.client.connection import Response, Stream

# The engine's number → name, as the API wants it: "SIGTERM".
SIGNAL_NAMES = {
    getattr(_signal, name): name
    for name in sorted(dir(_signal), reverse=True)
    if name.startswith("SIG") and not name.startswith("SIG_")
}


LEFT = "read escape sequence"
MOST_URGES = 3  # of SIGINT and SIGTERM: whoever sends that many wants us gone, too


class Attachment:
    """`with` it: raw mode and signals are set up by `open` and undone at the end, whatever happened.

    start: gives the hijacked stream; attach by default. resize_to, kill: how to pass on size and signals.
    """

    def __init__(
        self,
        session: Session,
        id: str,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        keys: bytes,
        keys_text: str = "",
        proxy_signals: bool = False,
        start: Callable[[], Stream] | None = None,
        resize_to: Callable[[int, int], None] | None = None,
    ) -> None:
        self._session = session
        self._id = id
        self._tty = tty
        self._stdin = stdin
        self._shows = stdout or stderr
        self._keys = keys
        self._stream: Stream | None = None
        self._raw: terminal.RawMode | None = None
        self._urges = 0
        numbers = list(terminal.PROXIED) if proxy_signals else []
        if tty and terminal.is_terminal(1):
            numbers.append(_signal.SIGWINCH)
        self._signals = terminal.Signals(numbers)
        engine = session.engine()
        self._start = start or (
            lambda: engine.attach_container(
                id, stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=keys_text
            )
        )
        self._resize_to = resize_to or (
            lambda height, width: engine.resize_container(id, height=height, width=width)
        )

    def __enter__(self) -> Attachment:
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.__exit__(kind, error, trace)
        self.close()

    def open(self) -> None:
        """Take the stream. From here on keys belong to the container."""
        self._stream = self._start()
        if self._tty and self._stdin and terminal.is_terminal(0):
            self._raw = terminal.RawMode(0)
            self._raw.__enter__()

    def resize(self, *, nudge: bool = False) -> None:
        """Tell the terminal's size, if there is one. nudge: by a detour, so that programs draw anew."""
        size = terminal.window_size(1) if self._tty else None
        if size is None:
            return
        try:
            if nudge:
                self._resize_to(size[0] + 1, size[1])
            self._resize_to(*size)
        except EngineError:
            pass  # it may have ended already; its size matters to nobody then

    def pump(self) -> str:
        """terminal.ENDED or terminal.DETACHED. ENDED at once without a stream.

        Who is told that one has left, and with what exit code, differs: `attach` and `exec` say LEFT and give
        1; `run` and `start` have done what they were asked for.
        """
        if self._stream is None:
            return terminal.ENDED
        sink: Raw | Demultiplexer | None = None
        if self._shows:
            sys.stdout.flush()
            sink = Raw(1) if self._tty else Demultiplexer(1, 2)
        how = terminal.pump(
            self._stream,
            sink,
            stdin=0 if self._stdin else None,
            keys=self._keys if self._tty and self._raw is not None else b"",
            signals=self._signals,
            on_signal=self._on_signal,
        )
        self.close()
        return how

    def exit_code(self, waiting: Response) -> int:
        """Of the container, from the body of its wait."""
        if (fd := waiting.fileno()) >= 0:
            terminal.until_readable(fd, self._signals, self._on_signal)
        ended = waiting.json() or {}
        error = (ended.get("Error") or {}).get("Message")
        if error:
            self._session.err(f"Error waiting for container: {error}")
            return 125
        return int(ended.get("StatusCode", 125))

    def _on_signal(self, number: int) -> None:
        if number == _signal.SIGWINCH:
            self.resize()
            return
        name = SIGNAL_NAMES.get(number, str(number))
        try:
            self._session.engine().kill_container(self._id, signal=name)
        except EngineError:
            pass  # it ended while the signal was on its way
        self._urges += number in (_signal.SIGINT, _signal.SIGTERM)
        if self._urges == MOST_URGES:
            self.close()
            self._session.err(f"\ngot {MOST_URGES} SIGTERM/SIGINTs, forcefully exiting")
            raise SystemExit(1)

    def close(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.__exit__(None, None, None)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def refuse_without_terminal() -> None:
    """`-t` with input needs a terminal to take it from. Raises NoTerminal."""
    if not terminal.is_terminal(0):
        raise terminal.NoTerminal("the input device is not a TTY")
