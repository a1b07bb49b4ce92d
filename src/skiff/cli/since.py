"""--since and --until: an instant as people write it → Unix seconds as the engine reads them."""

from __future__ import annotations

import time

from skiff.cli.flags import parse_duration
from skiff.cli.human import instant
from skiff.errors import InvalidParameter

SHAPES = ("0000-00-00T00:00:00", "0000-00-00T00:00", "0000-00-00T00", "0000-00-00")


def timestamp(text: str, now: float) -> str:
    """10m (ago), an RFC 3339 instant, a beginning of one in local time, or Unix seconds → seconds.

    Raises InvalidParameter.
    """
    try:
        if text == "0":
            raise ValueError  # no span: the beginning of time
        spent = parse_duration(text)
    except ValueError:
        pass
    else:
        return _written(int(now * 1_000_000_000) - spent)
    whole, dot, fraction = text.partition(".")
    if whole.removeprefix("-").isdecimal() and (not dot or fraction.isdecimal()):
        return text
    seconds, nanoseconds = _instant(text)
    return _written(seconds * 1_000_000_000 + nanoseconds)


def _written(nanoseconds: int) -> str:
    return f"{nanoseconds // 1_000_000_000}.{nanoseconds % 1_000_000_000:09d}"


def _instant(text: str) -> tuple[int, int]:
    wrong = InvalidParameter(f'failed to parse value as time or duration: "{text}"')
    zone = ""
    body = text
    if text[-1:] in ("Z", "z"):
        body, zone = text[:-1], "Z"
    elif len(text) > 10 and text[-6:-5] in ("+", "-"):
        body, zone = text[:-6], text[-6:]
    plain, _, fraction = body.partition(".")
    shape = "".join("0" if char.isdecimal() else char for char in plain)
    if shape not in SHAPES or (fraction and not fraction.isdecimal()):
        raise wrong
    filled = plain + "0000-00-00T00:00:00"[len(plain) :] + (f".{fraction}" if fraction else "")
    try:
        if zone:
            return instant(filled + zone)
        seconds, nanoseconds = instant(filled + "Z")
        moment = time.gmtime(seconds)
        return int(time.mktime((*moment[:8], -1))), nanoseconds  # the same reading of the local clock
    except (ValueError, OverflowError):
        raise wrong from None
