"""Source patterns, as Go's filepath.Match reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.builds.patterns import is_pattern, matches, parts
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
            matches(name, pattern)
    else:
        assert matches(name, pattern) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b", ["a", "b"]), ("/a//./b/", ["a", "b"]), ("../a", ["a"]), ("a/../../b", ["b"]), (".", [])],
)
def test_parts_stay_below_the_root(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_crashes(pattern: str, name: str) -> None:
    try:
        assert matches(name, pattern) in (True, False)
    except InvalidParameter:
        assert is_pattern(pattern)
