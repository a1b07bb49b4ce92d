"""Sizes, spans and instants as people read them in docker's lists.

Pure but for the machine's time zone; imports nothing heavy.
"""

import time

from skiff.docker.human import span as span

DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def size(count: float, digits: int = 4) -> str:
    """4.26MB: powers of 1000, as many significant digits."""
    return _scaled(count, digits, 1000.0, DECIMAL)


def binary_size(count: float, digits: int = 4) -> str:
    """23.54GiB: powers of 1024."""
    return _scaled(count, digits, 1024.0, BINARY)


def _scaled(count: float, digits: int, base: float, units: tuple[str, ...]) -> str:
    place = 0
    value = float(count)
    while value >= base and place < len(units) - 1:
        value /= base
        place += 1
    return f"{value:.{digits}g}{units[place]}"


def ago(instant: float, now: float) -> str:
    """instant, now: Unix seconds."""
    return span(now - instant) + " ago"


def instant(text: str) -> tuple[int, int]:
    """RFC 3339 → (Unix seconds, nanoseconds). Raises ValueError."""
    try:
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
        rest = text[19:]
        nanoseconds = 0
        if rest[:1] == ".":
            end = 1
            while rest[end : end + 1].isdecimal():
                end += 1
            nanoseconds = int(rest[1:end].ljust(9, "0")[:9])
            rest = rest[end:]
        offset = 0
        if rest not in ("Z", "z"):
            sign = -1 if rest[0] == "-" else 1
            offset = sign * (int(rest[1:3]) * 3600 + int(rest[4:6]) * 60)
        if not (0 < month < 13 and 0 < day < 32 and hour < 24 and minute < 60 and second < 61):
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(f"not a time: {text}") from None
    return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset, nanoseconds


def days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def local(seconds: int) -> str:
    """2026-11-23 20:41:12 +0000 UTC, as Go prints an instant in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def go_time(text: str) -> str:
    """RFC 3339 → 2026-11-23 20:41:12.241866344 +0000 UTC; the zone is the text's own."""
    date, _, rest = text.partition("T")
    clock, zone = rest, "+0000 UTC"
    if rest.endswith(("Z", "z")):
        clock = rest[:-1]
    elif rest[-6:-5] in ("+", "-"):
        clock, zone = rest[:-6], rest[-6:].replace(":", "")
        zone = f"{zone} {zone}"
    if "." in clock:
        clock = clock.rstrip("0").rstrip(".")
    return f"{date} {clock} {zone}"


def local_rfc3339(seconds: int, *, zone: bool = True) -> str:
    """2026-11-23T20:41:12Z in the local zone."""
    moment = time.localtime(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + (offset(moment) if zone else "")


def offset(moment: time.struct_time) -> str:
    east = moment.tm_gmtoff
    if not east:
        return "Z"
    sign = "-" if east < 0 else "+"
    return f"{sign}{abs(east) // 3600:02d}:{abs(east) % 3600 // 60:02d}"


def ellipsis(text: str, length: int) -> str:
    """At most `length` characters, the last of them … when something was cut."""
    if len(text) <= length:
        return text
    return text[: length - 1] + "…" if length > 1 else text[:length]


def short_id(id: str) -> str:
    """Twelve hex digits, without sha256:."""
    return id.partition(":")[2][:12] if ":" in id else id[:12]


def quoted(text: str) -> str:
    """As Go quotes a string."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    from skiff.docker.quoting import quoted as slowly

    return slowly(text)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which web2 comes before web10."""
    key: list[tuple[int, int, str]] = []
    at = 0
    while at < len(text):
        end = at
        is_digit = text[at] in "0123456789"
        while end < len(text) and (text[end] in "0123456789") == is_digit:
            end += 1
        piece = text[at:end]
        key.append((0, int(piece), piece) if is_digit else (1, 0, piece))
        at = end
    return tuple(key)
