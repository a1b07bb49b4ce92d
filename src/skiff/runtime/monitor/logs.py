r"""The log of a container as the monitor writes it: json-file, local, none.

A chunk of output becomes its records in one pass and one write(2). Every record is a JSON line

    {"log":"text\n","stream":"stdout","attrs":{…},"time":"2024-01-02T03:04:05.000000006Z"}

with attrs only when there are any. A line longer than 16 KiB is split; a record whose text has no newline
goes on in the next one of its stream. Bytes that are not UTF-8 become U+FFFD. All records of one read carry
one time. `local` writes the same records: a format of ours (Docker's own is private to it), with that
driver's defaults for rotation chosen by the engine.
"""

import gzip
import os
import re
import time
from typing import Final, Literal, Protocol

from msgspec import json

from skiff.runtime.protocol import LogConfig

LINE_LIMIT: Final = 16 * 1024
COPY: Final = 1 << 20

StreamName = Literal["stdout", "stderr"]

# Bytes JSON must escape, or that might not be UTF-8; a newline is the separator.
_UNSAFE: Final = re.compile(rb"[^\n\x20\x21\x23-\x5b\x5d-\x7e]")
_encode: Final = json.Encoder().encode


class LogWriter(Protocol):
    """Where output goes. Data of one stream arrives in order; lines may be cut anywhere."""

    def write(self, stream: StreamName, data: bytes) -> None: ...
    def unfinished(self) -> dict[StreamName, bytes]:
        """What has been given but is in no record yet, for want of a newline."""
        ...

    def close(self) -> None:
        """Write what is left without a newline, and end."""
        ...


class NoLog:
    """Keeps nothing."""

    def write(self, stream: StreamName, data: bytes) -> None:
        pass

    def unfinished(self) -> dict[StreamName, bytes]:
        return {}

    def close(self) -> None:
        pass


class JsonFile:
    """json-file and local. Rotated by size into path.1, path.2, … (.gz), path.1 being the youngest.

    OSError when the file cannot be opened; later a full disk loses records, not the container.
    """

    def __init__(self, config: LogConfig) -> None:
        self.path = config.path
        self.max_size = config.max_size
        self.max_file = max(config.max_file, 1)
        self.compress = config.compress
        attributes = b',"attrs":' + _encode(config.attributes) if config.attributes else b""
        self.rest: dict[StreamName, bytes] = {"stdout": b"", "stderr": b""}
        self.after: dict[StreamName, bytes] = {
            "stdout": b',"stream":"stdout"' + attributes + b',"time":"',
            "stderr": b',"stream":"stderr"' + attributes + b',"time":"',
        }
        self.fd = self._open()
        self.size = os.fstat(self.fd).st_size

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, stream: StreamName, data: bytes) -> None:
        cut = data.rfind(b"\n") + 1
        rest = self.rest[stream]
        if not cut:
            rest += data
            if len(rest) > LINE_LIMIT:
                keep = len(_pieces(rest)[-1])
                self._put(self.records(stream, rest[:-keep], whole=False))
                rest = rest[-keep:]
            self.rest[stream] = rest
            return
        lines = rest + data[:cut] if rest else data[:cut]
        self.rest[stream] = data[cut:]
        if len(data) - cut > LINE_LIMIT:
            self.rest[stream] = b""
            self._put(self.records(stream, lines, whole=True))
            self.write(stream, data[cut:])
            return
        self._put(self.records(stream, lines, whole=True))

    def unfinished(self) -> dict[StreamName, bytes]:
        return self.rest

    def close(self) -> None:
        streams: tuple[StreamName, StreamName] = ("stdout", "stderr")
        for stream in streams:
            if self.rest[stream]:
                self._put(self.records(stream, self.rest[stream], whole=False))
                self.rest[stream] = b""
        os.close(self.fd)

    def records(self, stream: StreamName, text: bytes, *, whole: bool) -> bytes:
        """The records of some text. whole: it ends with a newline; else it is one line that goes on."""
        after = self.after[stream] + timestamp() + b'"}\n'
        simple = _UNSAFE.search(text) is None
        if whole:
            if simple and not _has_long_line(text):
                end = b'\\n"' + after
                return b'{"log":"' + text[:-1].replace(b"\n", end + b'{"log":"') + end
            lines = _lines(text)
        else:
            lines = [text]
        end = after
        parts: list[bytes] = []
        for line in lines:
            for piece in _pieces(line) if len(line) > LINE_LIMIT else (line,):
                parts.append(b'{"log":')
                parts.append(_encode(piece.decode("utf-8", "replace")))
                parts.append(end)
        return b"".join(parts)

    def _put(self, records: bytes) -> None:
        if self.max_size and self.size + len(records) > self.max_size:
            records = self._fill(records)
        self._append(records)

    def _fill(self, records: bytes) -> bytes:
        """Write what fits into files of max_size, rotating; what remains for the last file is returned."""
        while len(records) + self.size > self.max_size:
            cut = records.rfind(b"\n", 0, max(self.max_size - self.size, 0)) + 1
            if not cut and not self.size:
                cut = records.find(b"\n") + 1  # one record larger than a whole file
            self._append(records[:cut])
            records = records[cut:]
            if not records:
                break
            self._rotate()
        return records

    def _append(self, records: bytes) -> None:
        if not records:
            return
        start = self.size
        try:
            while records:
                written = os.write(self.fd, records)
                self.size += written
                records = records[written:]
        except OSError:
            # A full disk must not stop the container; half a record would spoil those after it.
            os.ftruncate(self.fd, start)
            self.size = start

    def _rotate(self) -> None:
        os.close(self.fd)
        suffix = ".gz" if self.compress else ""
        if self.max_file == 1:
            os.truncate(self.path, 0)
        else:
            for number in range(self.max_file - 2, 0, -1):
                _rename(f"{self.path}.{number}{suffix}", f"{self.path}.{number + 1}{suffix}")
            _rename(self.path, f"{self.path}.1")
            if self.compress:
                _compress(f"{self.path}.1")
        self.fd = self._open()
        self.size = 0


def open_log(config: LogConfig | None) -> LogWriter:
    """The writer of a driver. ValueError for a driver that is written elsewhere or not at all."""
    if config is None or config.driver == "none":
        return NoLog()
    if config.driver in ("json-file", "local"):
        return JsonFile(config)
    raise ValueError(f"unknown log driver {config.driver!r}")


def timestamp() -> bytes:
    """Now, as RFC 3339 with nanoseconds in UTC."""
    seconds, ns = divmod(time.time_ns(), 1_000_000_000)
    return b"%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode(), ns)


def _has_long_line(text: bytes) -> bool:
    """By jumps from the last newline within reach to the next: no line is looked at twice."""
    start = 0
    while len(text) - start > LINE_LIMIT + 1:
        start = text.rfind(b"\n", start, start + LINE_LIMIT + 1) + 1
        if not start:
            return True
    return False


def _lines(text: bytes) -> list[bytes]:
    """Split at newlines only; a carriage return is text."""
    lines = text.split(b"\n")
    last = lines.pop()
    whole = [line + b"\n" for line in lines]
    return [*whole, last] if last else whole


def _pieces(line: bytes) -> list[bytes]:
    """At most LINE_LIMIT bytes each, not counting the newline; never inside a UTF-8 character."""
    pieces: list[bytes] = []
    body = len(line) - line.endswith(b"\n")
    start = 0
    while body - start > LINE_LIMIT:
        end = start + LINE_LIMIT
        while end > start + LINE_LIMIT - 4 and line[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(line[start:end])
        start = end
    pieces.append(line[start:])
    return pieces


def _rename(old: str, new: str) -> None:
    try:
        os.rename(old, new)
    except FileNotFoundError:
        pass


def _compress(path: str) -> None:
    with open(path, "rb") as source, gzip.open(f"{path}.gz", "wb", compresslevel=1) as target:
        while chunk := source.read(COPY):
            target.write(chunk)
    os.unlink(path)
