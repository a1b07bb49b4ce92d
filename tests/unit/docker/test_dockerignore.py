"""Patterns of .dockerignore: golden/dockerignore/cases.json holds what Docker left out of a context."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiff.docker.dockerignore import Patterns, parse
from skiff.docker.glob import matches
from skiff.errors import InvalidParameter

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "dockerignore" / "cases.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: repr(case["dockerignore"]))
def test_the_same_files_as_docker(case: dict[str, object]) -> None:
    patterns = Patterns(parse(str(case["dockerignore"]).encode()))
    assert [path for path in GOLDEN["files"] if patterns.excludes(path)] == case["excluded"]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: repr(case["dockerignore"]))
def test_a_directory_is_skipped_only_with_all_that_is_in_it(case: dict[str, object]) -> None:
    patterns = Patterns(parse(str(case["dockerignore"]).encode()))
    for path in GOLDEN["files"]:
        directory = path.rpartition("/")[0]
        if directory and patterns.excludes_all_of(directory):
            assert patterns.excludes(path)


def test_parsing() -> None:
    assert parse(b"\xef\xbb\xbf# c\r\n\r\n /a//b/ \r\n! x\r\n.\n") == ("a/b", "!x", ".")
    assert not Patterns(())


@pytest.mark.parametrize("line", ["[", "[a", "a\\", "[]", "[-a]", "[a-]"])
def test_malformed(line: str) -> None:
    with pytest.raises(InvalidParameter, match="syntax error in pattern"):
        parse(line.encode())


def test_a_lone_exclamation_mark() -> None:
    with pytest.raises(InvalidParameter, match="illegal exclusion pattern"):
        Patterns(parse(b"!"))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.c", "a.c", True),
        ("*.c", "a/b.c", False),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a]x", "/x", False),
        ("[^a]x", "bx", True),
        ("a\\*", "a*", True),
        ("a**b", "axyb", True),
    ],
)
def test_one_glob(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab/*?[]^-!\\# .\n", max_size=30), st.text(alphabet="ab/.", max_size=10))
def test_nothing_but_its_own_error(text: str, path: str) -> None:
    try:
        patterns = Patterns(parse(text.encode()))
    except InvalidParameter:
        return
    patterns.excludes(path)
    patterns.excludes_all_of(path)
