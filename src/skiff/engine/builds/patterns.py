r"""Source patterns of COPY and ADD: shell patterns as Go's filepath.Match reads them. Pure.

    pattern := { "*" | "?" | "[" [ "^" ] { lo [ "-" hi ] } "]" | "\" character | character }

`*` and `?` stop at a slash; a pattern matches a path part by part.
"""

import re
from functools import lru_cache

from skiff.errors import InvalidParameter

_SPECIAL = frozenset("*?[\\")


def is_pattern(text: str) -> bool:
    """Whether it could match anything but itself."""
    return any(character in _SPECIAL for character in text)


def parts(text: str) -> list[str]:
    """The parts of a path below the root: dots gone, `..` going no further up than that."""
    found: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del found[-1:]
        elif part not in ("", "."):
            found.append(part)
    return found


@lru_cache(maxsize=256)
def matcher(part: str) -> "re.Pattern[str]":
    """One part of a pattern. InvalidParameter when it is malformed."""
    out, at = "", 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "\\":
            if at >= len(part):
                raise InvalidParameter(f"syntax error in pattern: {part}")
            out += re.escape(part[at])
            at += 1
        elif character == "[":
            text, at = _class(part, at)
            out += text
        else:
            out += re.escape(character)
    return re.compile(out, re.DOTALL)


def _class(part: str, at: int) -> tuple[str, int]:
    negated = part.startswith("^", at)
    at += negated
    out = ""
    while True:
        if at >= len(part):
            raise InvalidParameter(f"syntax error in pattern: {part}")
        if part[at] == "]" and out:
            return f"[{'^' if negated else ''}{out}]", at + 1
        low, at = _character(part, at)
        high = low
        if part.startswith("-", at):
            high, at = _character(part, at + 1)
        if low <= high:
            out += f"{re.escape(low)}-{re.escape(high)}"


def _character(part: str, at: int) -> tuple[str, int]:
    if at >= len(part) or part[at] in "-]":
        raise InvalidParameter(f"syntax error in pattern: {part}")
    if part[at] == "\\":
        at += 1
        if at >= len(part):
            raise InvalidParameter(f"syntax error in pattern: {part}")
    return part[at], at + 1


def matches(name: str, part: str) -> bool:
    return matcher(part).fullmatch(name) is not None
