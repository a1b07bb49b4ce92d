"""Source patterns: which they are, and their parts."""

import pytest

from skiff.engine.builds.patterns import is_pattern, parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a/b", ["a", "b"]), ("/a//./b/", ["a", "b"]), ("../a", ["a"]), ("a/../../b", ["b"]), (".", [])],
)
def test_parts_stay_below_the_root(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("a*", True), ("[", True), (r"\a", True), ("a.b-c", False)])
def test_what_is_a_pattern(text: str, expected: bool) -> None:
    assert is_pattern(text) is expected
