import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api.instants import nanoseconds
from skiff.errors import InvalidParameter

NOW = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("0", 0),
        ("1700000000", NOW),
        ("1700000000.5", NOW + 500_000_000),
        ("1700000000.000000001", NOW + 1),
        ("-1", -1_000_000_000),
        ("10m", NOW - 600_000_000_000),
        ("1h30m", NOW - 5_400_000_000_000),
        ("1.5s", NOW - 1_500_000_000),
        ("-10s", NOW + 10_000_000_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20.000000001Z", NOW + 1),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14", NOW - 80_000_000_000_000),
    ],
)
def test_instants(text: str, expected: int | None) -> None:
    assert nanoseconds(text, NOW) == expected


@pytest.mark.parametrize("text", ["now", "m", "2023-13-01", "2023-11-14T25:00:00Z", "1e9", "١"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(InvalidParameter):
        nanoseconds(text, NOW)


@given(st.text(max_size=30))
def test_no_text_crashes_it(text: str) -> None:
    try:
        nanoseconds(text, NOW)
    except InvalidParameter:
        pass
