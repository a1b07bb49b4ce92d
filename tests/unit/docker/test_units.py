import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.docker import units
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("1k", 1024),
        ("1K", 1024),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2 GiB", 2 << 30),
        ("1t", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.2.3k", "1kk"])
def test_impossible_sizes(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1m30s", 90 * units.SECOND),
        ("1.5h", 90 * units.MINUTE),
        ("300ms", 300_000_000),
        ("-2s", -2 * units.SECOND),
        ("1us", 1000),
        ("1h2m3s4ms", 3723 * units.SECOND + 4_000_000),
    ],
)
def test_spans(text: str, ns: int) -> None:
    assert units.parse_span(text) == ns


@pytest.mark.parametrize("text", ["", "5", "1d", "s", "1 m"])
def test_impossible_spans(text: str) -> None:
    with pytest.raises(InvalidParameter):
        units.parse_span(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1700000000", 1_700_000_000 * units.SECOND),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * units.SECOND),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000 * units.SECOND),
        ("2023-11-14", 1_699_920_000 * units.SECOND),
        ("10m", 0),
    ],
)
def test_since_and_until(text: str, ns: int) -> None:
    assert units.parse_time(text, 10 * units.MINUTE) == ns


@given(st.integers(0, 4_000_000_000 * units.SECOND))
def test_instants_come_back(ns: int) -> None:
    assert units.parse_instant(units.rfc3339(ns)) == ns


@given(st.text(max_size=30))
def test_no_text_crashes(text: str) -> None:
    for parse in (units.parse_size, units.parse_span, lambda t: units.parse_time(t, 0)):
        try:
            parse(text)
        except InvalidParameter:
            pass
