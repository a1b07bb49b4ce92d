"""JSON ↔ Python values through the C scanner and encoder alone.

`import json` costs more than a whole `ps` (it brings `re`); the C halves of it are enough.
"""

from __future__ import annotations

import _json

from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Rules:
    """What the scanner reads its settings from."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"JSON has no {name}")


_scan = _json.make_scanner(_Rules())  # type: ignore[arg-type]


def _refuse(value: object) -> object:
    raise TypeError(f"cannot be JSON: {value!r}")


_encode, _spell = (
    _json.make_encoder(None, _refuse, strings, None, ":", ",", False, False, False)
    for strings in (_json.encode_basestring_ascii, _json.encode_basestring)
)


def decode(text: str | bytes | bytearray) -> Any:
    """One JSON value with white space around it. Raises ValueError."""
    if not isinstance(text, str):
        text = text.decode("utf-8", "replace")
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration as error:
        raise ValueError(f"not JSON at character {error.value}") from None
    except SystemError:
        # The scanner would raise json's own error class, and json has not been imported.
        raise ValueError("not JSON: malformed or cut short") from None
    if end != len(text):
        raise ValueError(f"not JSON at character {end}")
    return value


def encode(value: object) -> bytes:
    """Compact, ASCII only. Raises InvalidParameter for a string that came of bytes which are not UTF-8."""
    text = "".join(_encode(value, 0))
    if "\\ud" in text:  # half of a character, or such a byte
        _check("".join(_spell(value, 0)))
    return text.encode("ascii")


def _check(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        first, last = text.rfind('"', 0, error.start) + 1, text.find('"', error.end)
        shown = ascii(text[first:last])
        raise InvalidParameter(f"{shown} is not UTF-8, and the engine takes nothing else there") from None
