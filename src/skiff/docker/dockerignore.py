r""".dockerignore: which files of a directory do not go into a build context. Pure.

    file    := { line }           line := blank | "#" comment | ["!"] pattern
    pattern := part { "/" part }  part := "**" (any number of directories) | glob (docker/glob.py)

The last pattern that matches decides; one that matches a directory decides for all that is in it.
"""

import re
from collections.abc import Iterable, Sequence
from posixpath import normpath

from skiff.docker.glob import Automaton, expression
from skiff.errors import InvalidParameter

_TOO_MANY = 10_000  # patterns in one file


def parse(data: bytes) -> tuple[str, ...]:
    """The patterns of a .dockerignore, comments and blank lines left out, in order. InvalidParameter."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = (line for line in text.replace("\r\n", "\n").split("\n") if not line.startswith("#"))
    found = tuple(line for line in (_cleaned(line.strip()) for line in lines) if line)
    if len(found) > _TOO_MANY:
        raise InvalidParameter(f".dockerignore of {len(found)} patterns: expected at most {_TOO_MANY}")
    for line in found:
        _whole(line.removeprefix("!"))
    return found


def _cleaned(line: str) -> str:
    """`! /a//b/` → `!a/b`; a pattern of the directory itself stays `.`."""
    if not line:
        return ""
    mark = "!" if line.startswith("!") else ""
    pattern = line.removeprefix("!").strip()
    if not pattern:
        return mark
    pattern = normpath(pattern).lstrip("/")
    return mark + (pattern or ".")


class Patterns:
    """A list of patterns, ready to ask. InvalidParameter when one is malformed."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[re.Pattern[str] | Automaton, bool]] = []
        self._exceptions: list[str] = []
        for line in lines:
            line = _cleaned(line.strip())
            if not line:
                continue
            exception = line.startswith("!")
            pattern = line.removeprefix("!")
            if not pattern:
                raise InvalidParameter('illegal exclusion pattern: "!"')
            if exception:
                self._exceptions.append(pattern)
            self._rules.append((_whole(pattern), exception))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def excludes(self, path: str) -> bool:
        """Whether the file at path, relative and with slashes, is left out, itself or with a directory."""
        path = path.strip("/")
        prefixes = _prefixes(path)
        excluded = False
        for regex, exception in self._rules:
            if exception != excluded:  # it would change nothing
                continue
            if any(regex.fullmatch(prefix) for prefix in prefixes):
                excluded = not exception
        return excluded

    def excludes_all_of(self, directory: str) -> bool:
        """Whether a walk may skip the directory: it is left out, and no exception reaches into it."""
        if not self.excludes(directory):
            return False
        parts = directory.strip("/").split("/")
        return not any(_may_reach(pattern.split("/"), parts) for pattern in self._exceptions)


def _prefixes(path: str) -> list[str]:
    """`a/b/c` → the path itself and each directory above it."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _may_reach(pattern: Sequence[str], directory: Sequence[str]) -> bool:
    for wanted, part in zip(pattern, directory, strict=False):
        if wanted == "**":
            return True
        if not _whole(wanted).fullmatch(part):
            return False
    return True


def _whole(pattern: str) -> re.Pattern[str] | Automaton:
    return expression(pattern, doublestar=True)
