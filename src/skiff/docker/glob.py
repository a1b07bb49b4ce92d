r"""Shell patterns as Go's filepath.Match reads them. Pure.

    pattern := { "*" | "?" | "[" [ "^" ] { lo [ "-" hi ] } "]" | "\" character | character }

None of them matches a slash: a path is matched part by part.
"""

import re
from functools import lru_cache

from skiff.errors import InvalidParameter


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern matches the whole path. InvalidParameter: malformed."""
    return expression(pattern).fullmatch(path) is not None


@lru_cache(maxsize=4096)
def expression(pattern: str, doublestar: bool = False) -> re.Pattern[str]:
    """To be matched as a whole. doublestar: ** is any number of directories. InvalidParameter: malformed."""
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            stars = 1
            while position < len(pattern) and pattern[position] == "*":
                position += 1
                stars += 1
            if stars == 1 or not doublestar:
                out.append("[^/]*")
                continue
            if position == len(pattern):
                out.append(".*")
            elif pattern[position] == "/":
                position += 1
                out.append("(?:.*/)?")
            else:
                out.append(".*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, position = _set(pattern, position)
            out.append(text)
        elif char == "\\":
            if position == len(pattern):
                raise InvalidParameter(f'syntax error in pattern "{pattern}"')
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _set(pattern: str, position: int) -> tuple[str, int]:
    """`[a-z^]` as an expression; position stands behind the bracket."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while True:
        if position >= len(pattern):
            raise InvalidParameter(f'syntax error in pattern "{pattern}"')
        if pattern[position] == "]" and ranges:
            break
        low, position = _member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # a range that holds nothing, as Go has it
    inner = "".join(ranges)
    if negated:
        return f"[^/{inner}]", position + 1
    return (f"(?!/)[{inner}]" if inner else "(?!)"), position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        raise InvalidParameter(f'syntax error in pattern "{pattern}"')
    if pattern[position] == "\\":
        position += 1
        if position >= len(pattern):
            raise InvalidParameter(f'syntax error in pattern "{pattern}"')
    return pattern[position], position + 1
