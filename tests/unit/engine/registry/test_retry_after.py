"""When a registry wants to be asked again."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.registry.replies import delay
from skiff.engine.registry.transport import LONGEST_WAIT, TryAgain, retry_after
from skiff.errors import Unavailable

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True), 30.0),
        (format_datetime(datetime.fromtimestamp(NOW - 30, UTC), usegmt=True), 0.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_what_it_says(value: str, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


@given(st.text(max_size=60))
def test_whatever_it_says(value: str) -> None:
    found = retry_after(value, NOW)
    assert found is None or found >= 0


@given(st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,12} \d\d:\d\d:\d\d (GMT|[+-]\d{1,9})?"))
def test_nearly_a_date(value: str) -> None:
    found = retry_after(value, NOW)
    assert found is None or found >= 0


def test_pauses_grow_and_are_never_shorter_than_asked() -> None:
    assert delay(1, Unavailable("x")) < delay(4, Unavailable("x"))
    assert 5.0 <= delay(1, TryAgain("x", 5.0)) <= 5.5
    assert delay(1, TryAgain("x", LONGEST_WAIT)) >= LONGEST_WAIT
