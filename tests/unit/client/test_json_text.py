"""The C scanner without the module json: in a fresh interpreter, where nothing else has imported it."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.client import json_text
from skiff.errors import InvalidParameter

BROKEN = ["{", "[", '{"a"', '{"a":}', '"', "[1,", "nul", "", "{'a': 1}", '"\\u12"', "[1] 2", '{"a" 1}']
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from skiff.client import json_text
assert "json" not in sys.modules
for text in sys.argv[2:]:
    try:
        json_text.decode(text)
    except ValueError:
        continue
    sys.exit(text)
"""


def test_broken_text_is_a_value_error_where_json_is_not_imported() -> None:
    root = json_text.__file__.removesuffix("/skiff/client/json_text.py")
    subprocess.run([sys.executable, "-ISc", PROGRAM, root, *BROKEN], check=True)


@pytest.mark.parametrize("text", BROKEN)
def test_broken_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        json_text.decode(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_values_round_trip_as_json_reads_them(value: object) -> None:
    assert json.loads(json_text.encode(value)) == value
    assert json_text.decode(json.dumps(value)) == value


def test_what_is_not_utf8_is_told_by_its_words() -> None:
    with pytest.raises(InvalidParameter, match=r"^'A=\\udcff' is not UTF-8"):
        json_text.encode({"Env": ["B=1", "A=" + os.fsdecode(b"\xff")]})
