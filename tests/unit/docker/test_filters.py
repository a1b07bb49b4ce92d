import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.docker import filters
from skiff.errors import InvalidParameter

KNOWN = ("label", "name", "dangling", "label!")


@pytest.mark.parametrize("text", ['{"label":["a=b","c"]}', '{"label":{"a=b":true,"c":false}}'])
def test_both_shapes(text: str) -> None:
    assert filters.parse(text, KNOWN).values("label") == ("a=b", "c")


@pytest.mark.parametrize("text", [None, "", "null", "{}", '{"name":[]}'])
def test_nothing_asked(text: str | None) -> None:
    assert not filters.parse(text, KNOWN)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"name": 3}', '{"nope":["x"]}'])
def test_malformed_or_unknown(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid filter"):
        filters.parse(text, KNOWN)


def test_labels_all_of_them() -> None:
    asked = filters.parse('{"label":["a","b=1"],"label!":["c"]}', KNOWN)
    assert asked.labels({"a": "x", "b": "1"})
    assert not asked.labels({"a": "x", "b": "2"})
    assert not asked.labels({"a": "x", "b": "1", "c": ""})
    assert not asked.labels(None)


def test_truth() -> None:
    assert filters.parse('{"dangling":["true"]}', KNOWN).boolean("dangling") is True
    assert filters.parse("{}", KNOWN).boolean("dangling", False) is False
    with pytest.raises(InvalidParameter, match=r"dangling=.maybe"):
        filters.parse('{"dangling":["maybe"]}', KNOWN).boolean("dangling")


@given(st.text(max_size=40))
def test_no_text_crashes(text: str) -> None:
    try:
        filters.parse(text, KNOWN)
    except InvalidParameter:
        pass
