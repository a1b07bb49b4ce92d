"""Signals by name or number, as docker kill takes them. signal(7)."""

import signal

from skiff.errors import InvalidParameter

LAST = 64


def signal_number(text: str) -> int:
    """`SIGTERM`, `term`, `15`, `RTMIN+3`. InvalidParameter: `invalid signal: x`."""
    if text.isascii() and text.isdigit():
        number = int(text[:4])
        if number == 0:
            raise InvalidParameter(f"invalid signal: {text}")
        if number <= LAST:
            return number
        raise InvalidParameter(f"the linux daemon does not support signal {text}")
    name = text.upper().removeprefix("SIG")
    for base in ("RTMIN", "RTMAX"):
        if name.startswith(base) and len(name) > len(base):
            offset = name[len(base) :]
            if offset[0] in "+-" and offset[1:].isdigit():
                number = signal.Signals[f"SIG{base}"] + int(offset[:4])
                if signal.SIGRTMIN <= number <= LAST:
                    return number
            raise InvalidParameter(f"invalid signal: {text}")
    try:
        return signal.Signals[f"SIG{name}"]
    except KeyError:
        raise InvalidParameter(f"invalid signal: {text}") from None
