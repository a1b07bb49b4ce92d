r"""The keys that leave an attached terminal: `ctrl-p,ctrl-q`, `a,b,c`, `ctrl-@`. Pure.

keys := key {"," key};  key := "ctrl-" (a…z | @ [ ] ^ _ \\) | one character
"""

from typing import Final

from skiff.errors import InvalidParameter

DEFAULT: Final = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROL: Final = {chr(ord("a") + n): n + 1 for n in range(26)} | {
    "@": 0,
    "[": 27,
    "\\": 28,
    "]": 29,
    "^": 30,
    "_": 31,
}


def detach_keys(text: str) -> bytes:
    """The bytes that a terminal sends for these keys; the default ones for an empty text."""
    if not text:
        return DEFAULT
    found = bytearray()
    for key in text.split(","):
        control = key.removeprefix("ctrl-")
        if key.startswith("ctrl-") and control in _CONTROL:
            found.append(_CONTROL[control])
        elif len(key) == 1 and key.isascii():
            found += key.encode()
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(found)
