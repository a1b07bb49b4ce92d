r"""Shell patterns as Go's filepath.Match reads them. Pure.

    pattern := { "*" | "?" | "[" [ "^" ] { lo [ "-" hi ] } "]" | "\" character | character }

None of them matches a slash: a path is matched part by part.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from skiff.errors import InvalidParameter

LONGEST = 8192  # characters of a pattern: a path has at most 4095, each perhaps behind a backslash
_NAME, _ANYTHING, _DIRECTORIES = _STARS = ("[^/]*", ".*", "(?:.*/)?")
_MOST_STEPS = 4096  # that an automaton remembers


def matches(pattern: str, path: str) -> bool:
    """Whether the pattern matches the whole path. InvalidParameter: malformed."""
    return bool(expression(pattern).fullmatch(path))


@lru_cache(maxsize=4096)
def expression(pattern: str, doublestar: bool = False) -> "re.Pattern[str] | Automaton":
    """To be matched as a whole. doublestar: ** is any number of directories. InvalidParameter: malformed.

    Whoever wrote the pattern may be hostile: `re` tries all places for all stars, which takes for ever when
    they are many. From three stars on an automaton goes through the text once.
    """
    if len(pattern) > LONGEST:
        raise InvalidParameter(f"a pattern of {len(pattern)} characters: expected at most {LONGEST}")
    parts = _parts(pattern, doublestar)
    if sum(part in _STARS for part in parts) > 2:
        return Automaton(parts)
    return re.compile("".join(parts), re.DOTALL)


class Automaton:
    """Matches what the expressions in a row match, each of one character or one of _STARS.

    A state is the set of parts that may come next: twice their index, and one more inside of a _DIRECTORIES.
    States are made when a text leads to them.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts
        self._tests = [None if part in _STARS else re.compile(part, re.DOTALL) for part in parts]
        self._begin = self._closed({0})
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def fullmatch(self, text: str) -> bool:
        state = self._begin
        for char in text:
            following = self._known.get((state, char))
            if following is None:
                following = self._step(state, char)
                if len(self._known) >= _MOST_STEPS:
                    self._known.clear()
                self._known[state, char] = following
            state = following
            if not state:
                return False
        return 2 * len(self._parts) in state

    def _step(self, state: frozenset[int], char: str) -> frozenset[int]:
        found: set[int] = set()
        for one in state:
            at = one // 2
            if at == len(self._parts):
                continue
            part, test = self._parts[at], self._tests[at]
            if part == _DIRECTORIES:
                found.add(2 * at + 1)
                found |= {2 * at + 2} if char == "/" else set()
            elif part == _ANYTHING or (part == _NAME and char != "/"):
                found.add(one)
            elif test is not None and test.fullmatch(char):
                found.add(2 * at + 2)
        return self._closed(found)

    def _closed(self, state: set[int]) -> frozenset[int]:
        """With what comes next where a star stands for nothing."""
        pending = list(state)
        while pending:
            at, is_inside = divmod(pending.pop(), 2)
            skips = at < len(self._parts) and self._parts[at] in _STARS and not is_inside
            if skips and 2 * at + 2 not in state:
                state.add(2 * at + 2)
                pending.append(2 * at + 2)
        return frozenset(state)


def _parts(pattern: str, doublestar: bool) -> list[str]:
    """An expression for each character or star. InvalidParameter."""
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
                out.append(_NAME)
            elif pattern.startswith("/", position):
                position += 1
                out.append(_DIRECTORIES)
            else:
                out.append(_ANYTHING)
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
    return out


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
