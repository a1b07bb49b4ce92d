r"""The records of a json-file log. Pure; light enough for a monitor.

    {"log":"text\n","stream":"stdout","attrs":{…},"time":"2026-11-23T20:32:50.468743259Z"}

One a line. A line longer than 16 KiB is several records, of which only the last ends in a newline. Bytes that
are no UTF-8 are written as U+FFFD, as Docker writes them.
"""

import msgspec
from msgspec import Struct

from skiff.docker.units import parse_instant, rfc3339


class Record(Struct, frozen=True):
    """stream: stdout or stderr. time: RFC 3339 in UTC with nanoseconds."""

    log: str = ""
    stream: str = "stdout"
    attrs: dict[str, str] | None = None
    time: str = ""

    @property
    def time_ns(self) -> int:
        """Since the epoch."""
        return parse_instant(self.time)


_decoder = msgspec.json.Decoder(Record)
_string = msgspec.json.encode


def encode(stream: str, line: bytes, at_ns: int, attrs: bytes = b"") -> bytes:
    """The record of one line, with its newline. attrs: the JSON object as it shall stand, or empty."""
    return b'{"log":%s,"stream":"%s",%s"time":"%s"}\n' % (
        _string(line.decode("utf-8", "replace")),
        stream.encode(),
        b'"attrs":%s,' % attrs if attrs else b"",
        rfc3339(at_ns).encode(),
    )


def decode(line: bytes) -> Record:
    """ValueError for a damaged one: a crash may leave half a line behind."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise ValueError(f"damaged log record: {error}") from None
