"""Detach keys: `ctrl-p,ctrl-q` as the bytes that a terminal sends. Pure."""

from skiff.errors import InvalidParameter

DEFAULT = b"\x10\x11"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def detach_keys(text: str) -> bytes:
    r"""Docker's default for an empty text. InvalidParameter.

    keys := key ("," key)*      key := any character | "ctrl-" (letter | "@" | "[" | "\\" | "]" | "^" | "_")
    """
    if not text:
        return DEFAULT
    found = bytearray()
    for key in text.split(","):
        kind, dash, letter = key.partition("-")
        if len(key.encode()) == 1:
            found += key.encode()
        elif kind.lower() == "ctrl" and dash and len(letter) == 1:
            if letter.isascii() and letter.isalpha():
                found.append(ord(letter.lower()) - ord("a") + 1)
            elif letter in _SPECIAL:
                found.append(_SPECIAL[letter])
            else:
                raise InvalidParameter(f"Invalid escape keys ({text}) provided")
        else:
            raise InvalidParameter(f"Invalid escape keys ({text}) provided")
    return bytes(found)
