import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api.detaching import detach_keys
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,a", b"\x01a"),
        ("ctrl-@,ctrl-[,ctrl-_", b"\x00\x1b\x1f"),
        ("a,b,c", b"abc"),
    ],
)
def test_keys(text: str, expected: bytes) -> None:
    assert detach_keys(text) == expected


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-p,", "abc", "é", "ctrl-P"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        detach_keys(text)


@given(st.text(max_size=20))
def test_no_text_crashes_it(text: str) -> None:
    try:
        detach_keys(text)
    except InvalidParameter:
        pass
