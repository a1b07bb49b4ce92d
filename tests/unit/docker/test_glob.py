"""Shell patterns, as Go's filepath.Match reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.docker.glob import matches
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
