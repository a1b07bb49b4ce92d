"""Sizes, spans and instants as Docker's users write and read them. Pure: the present comes in as an argument.

Everything is an integer: bytes, nanoseconds, nanoseconds since the epoch.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from skiff.errors import InvalidParameter

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_SPANS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_SPAN = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_SPAN_START = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))*(?:\d+\.?\d*|\.\d+)")
_SPAN_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SIZE = re.compile(r"(\d+(?:\.\d+)*) ?([kKmMgGtTpP])?(i?[bB])?")
_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?"
)
_UNIX = re.compile(r"(-?\d+)(?:\.(\d{1,9}))?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_size(text: str) -> int:
    """Bytes of `512m`, `1.5g`, `64 KiB`, `100`; powers of 1024. InvalidParameter.

    size := number [" "] ["k"|"m"|"g"|"t"|"p"] ["b"|"ib"]      in either case
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[1].count(".") > 1:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * 1024 ** _POWERS[(match[2] or "").lower()])


def parse_span(text: str) -> int:
    """Nanoseconds of `1m30s`, `1.5h`, `300ms`, `0`. InvalidParameter.

    span := [sign] ("0" | (number unit)+)      unit := ns us µs ms s m h
    """
    if not _SPAN.fullmatch(text):
        lacks = _SPAN_START.fullmatch(text)
        raise InvalidParameter(f'time: {"missing unit in" if lacks else "invalid"} duration "{text}"')
    total = 0
    for number, unit in _SPAN_PART.findall(text):
        whole, _, fraction = number.partition(".")
        scale = _SPANS[unit]
        total += int(whole or 0) * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
    return -total if text.startswith("-") else total


def parse_time(text: str, now_ns: int) -> int:
    """The instant of a since or until: unix seconds, RFC 3339 or part of it, or a span before now.

    InvalidParameter. An instant without a zone is in UTC.
    """
    if match := _UNIX.fullmatch(text):
        nanoseconds = int((match[2] or "0").ljust(9, "0"))
        return int(match[1]) * SECOND + nanoseconds
    if _SPAN.fullmatch(text):
        return now_ns - parse_span(text)
    try:
        return parse_instant(text)
    except ValueError:
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from None


@lru_cache(maxsize=4096)  # lists show the same instants again and again
def parse_instant(text: str) -> int:
    """Nanoseconds since the epoch of RFC 3339, or of a part of it as the command line takes. ValueError."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid instant {text!r}: expected RFC 3339")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    zone = match[8]
    if zone and zone != "Z":
        shift = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        try:
            at = at - shift if zone[0] == "+" else at + shift
        except OverflowError:
            raise ValueError(f"invalid instant {text!r}: out of range") from None
    since = at - _EPOCH
    return (since.days * 86400 + since.seconds) * SECOND + int((match[7] or "0").ljust(9, "0"))


def rfc3339(at_ns: int) -> str:
    """`2026-11-23T20:32:50.468743259Z`, as Docker's inspect writes instants: trailing zeros dropped."""
    seconds, nanoseconds = divmod(at_ns, SECOND)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return f"{text}.{nanoseconds:09d}".rstrip("0") + "Z" if nanoseconds else text + "Z"
