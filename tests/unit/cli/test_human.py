import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.cli import human
from skiff.cli.since import timestamp
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("count", "digits", "text"),
    [
        (0, 3, "0B"),
        (999, 3, "999B"),
        (1000, 3, "1kB"),
        (4261550, 3, "4.26MB"),
        (1982277, 4, "1.982MB"),
        (123456789, 3, "123MB"),
        (999999, 3, "1e+03kB"),
    ],
)
def test_sizes(count: int, digits: int, text: str) -> None:
    assert human.size(count, digits) == text


def test_binary_sizes() -> None:
    assert human.binary_size(25276370944) == "23.54GiB"


@given(st.datetimes(min_value=datetime.datetime(1, 1, 2), max_value=datetime.datetime(9999, 12, 30)))
def test_instants_agree_with_the_calendar(moment: datetime.datetime) -> None:
    exact = moment.replace(tzinfo=datetime.UTC)
    seconds, nanoseconds = human.instant(moment.isoformat() + "Z")
    assert (
        datetime.datetime.fromtimestamp(0, datetime.UTC)
        + datetime.timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
        == exact
    )


def test_instants_have_zones_and_nanoseconds() -> None:
    assert human.instant("1970-01-01T01:00:00.000000001+01:00") == (0, 1)


@given(st.text())
def test_no_text_crashes_instant(text: str) -> None:
    try:
        human.instant(text)
    except ValueError:
        pass


def test_go_time() -> None:
    assert human.go_time("2026-11-23T20:41:12.100Z") == "2026-11-23 20:41:12.1 +0000 UTC"


def test_natural_order() -> None:
    assert sorted(["web10", "web2", "db"], key=human.natural) == ["db", "web2", "web10"]


def test_ellipsis() -> None:
    assert human.ellipsis("sh -c 'echo a very long", 20) == "sh -c 'echo a very …"


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("100", "100"),
        ("100.5", "100.5"),
        ("10s", "990.000000000"),
        ("1970-01-01T00:00:01Z", "1.000000000"),
        ("1970-01-01T00:00:01.5+00:00", "1.500000000"),
    ],
)
def test_since(text: str, stamp: str) -> None:
    assert timestamp(text, 1000) == stamp


@pytest.mark.parametrize("text", ["", "foo", "2026-13-01T00:00:00:00", "2026-13-01", "-"])
def test_since_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter, match="failed to parse value as time or duration"):
        timestamp(text, 1000)
