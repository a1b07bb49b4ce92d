"""Which tests show an endpoint or a command: stories of the differential test, else files that name it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from skiff.cli.main import SPELLINGS
from tests.conformance.differential import cases

TESTS: Final = Path(__file__).parents[1]
MOST: Final = 3
STORY: Final = "differential/{}"


def of_endpoint(method: str, path: str) -> list[str]:
    """The best first, and no more than a few."""
    shape = re.compile(r"(?:/v[0-9.]+)?" + re.sub(r"\\\{[^}]*\\\}", "[^?]+?", re.escape(path)) + r"(?:\?.*)?")
    stories = [
        story
        for story in cases.stories()
        if any(case.method == method and shape.fullmatch(case.target) for case in cases.read(story))
    ]
    literal = re.compile("[\"'`]" + re.sub(r"\\\{[^}]*\\\}", "[^\"'`/ ]+", re.escape(path)) + "[\"'`?]")
    return _some(stories, literal)


def of_command(words: str) -> list[str]:
    """words: those after `docker`; its other spellings count, too."""
    known = SPELLINGS.get(words)
    spelled = [spelling for spelling, command in SPELLINGS.items() if command == known] if known else [words]
    lines = tuple(f"{spelling} " for spelling in spelled)
    stories = [
        story
        for story in cases.stories()
        if any(case.method == "$" and f"{case.target} ".startswith(lines) for case in cases.read(story))
    ]
    quoted = "|".join(r",\s*".join(f'"{re.escape(word)}"' for word in text.split()) for text in spelled)
    return _some(stories, re.compile(rf"(?:cli|skiff|docker|run|main|page|parsed?)\(\s*[\[(]?(?:{quoted})"))


def _some(stories: list[str], literal: re.Pattern[str]) -> list[str]:
    found = [STORY.format(story) for story in stories]
    return (found or [name for name, text in _files() if literal.search(text)])[:MOST]


@cache
def _files() -> tuple[tuple[str, str], ...]:
    return tuple(_read())


def _read() -> Iterator[tuple[str, str]]:
    for folder in ("integration", "conformance", "unit"):
        for path in sorted((TESTS / folder).rglob("test_*.py")):
            yield str(path.relative_to(TESTS)).removesuffix(".py"), path.read_text()
