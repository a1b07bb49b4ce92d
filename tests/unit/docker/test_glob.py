"""Shell patterns, as Go's filepath.Match reads them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.docker import glob
from skiff.docker.glob import Automaton, matches
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a.txt", True),
        ("*.txt", "a.txt", True),
        ("*.txt", "a.md", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        (r"\*", "*", True),
        (r"\*", "a", False),
        ("[*]", "*", True),
        ("a[]]b", "a]b", None),
        ("[", "a", None),
        ("[a", "a", None),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("a\\", "a", None),
    ],
)
def test_matches(pattern: str, name: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(InvalidParameter, match="pattern"):
            matches(pattern, name)
    else:
        assert matches(pattern, name) is expected


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_crashes(pattern: str, name: str) -> None:
    try:
        assert matches(pattern, name) in (True, False)
    except InvalidParameter:
        assert set(pattern) & set("[\\")


_PARTS = st.sampled_from(["a", "b", "/", "[^/]", "[^/a]", "[^/]*", ".*", "(?:.*/)?"])


@given(st.lists(_PARTS, max_size=6), st.text(alphabet="ab/\n", max_size=8))
def test_the_automaton_matches_what_the_expression_matches(parts: list[str], text: str) -> None:
    expected = re.compile("".join(parts), re.DOTALL).fullmatch(text) is not None
    assert Automaton(parts).fullmatch(text) is expected


@pytest.mark.parametrize(
    "pattern", ["*a" * 40 + "b", "**a" * 40 + "b", "**/a/" * 40 + "b", "a*" * 4000 + "b"]
)
def test_hostile_patterns_come_to_an_end(pattern: str) -> None:
    for name in ("a" * 255, "a/" * 2000, "/" * 4000):
        assert not glob.expression(pattern, doublestar=True).fullmatch(name)


def test_a_pattern_longer_than_any_path_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="expected at most"):
        matches("a" * (glob.LONGEST + 1), "a")
