"""Instants in query strings: `since` and `until` of events, logs and prune. Pure.

instant := unix seconds with an optional fraction, `1700000000.5`
         | a Go duration before now, `10m`, `1h30m`
         | RFC 3339, or a date with less: `2024-05-01`, `2024-05-01T10:00:00`, without a zone in UTC
"""

import re
from datetime import UTC, datetime
from typing import Final

from skiff.errors import InvalidParameter

_SECONDS: Final = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,18}))?")
_DURATION: Final = re.compile(r"-?(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def nanoseconds(text: str, now_ns: int) -> int | None:
    """Nanoseconds since the epoch; None when the text is empty. InvalidParameter when it is no instant."""
    if not text:
        return None
    seconds = _SECONDS.fullmatch(text)
    if seconds:
        fraction = int((seconds[2] or "0")[:9].ljust(9, "0"))
        return int(seconds[1]) * 1_000_000_000 + fraction
    if _DURATION.fullmatch(text):
        span = sum(round(float(number) * _UNIT_NS[unit]) for number, unit in _PART.findall(text))
        return now_ns + span if text.startswith("-") else now_ns - span
    return _rfc3339(text)


def _rfc3339(text: str) -> int:
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9})\d*)?)?(Z|[+-]\d\d:\d\d)?",
        text,
        re.ASCII,
    )
    if not match:
        raise InvalidParameter(f"invalid value for time: {text!r}: expected seconds, a duration or RFC 3339")
    date, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00'}{(zone or 'Z').replace('Z', '+00:00')}")
    except ValueError as error:
        raise InvalidParameter(f"invalid value for time: {text!r}: {error}")
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    return whole * 1_000 + int((fraction or "0").ljust(9, "0"))


_MICROSECOND: Final = datetime.resolution
