"""What a call carries that is not text: names of files are any bytes."""

import os
from urllib.parse import quote_from_bytes

import msgspec
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api.call import Call, encode


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_file_name_comes_as_it_was_sent(other: bytes, name: bytes) -> None:
    request = make_mocked_request("GET", f"/x?other={quote_from_bytes(other)}&path={quote_from_bytes(name)}")
    assert os.fsencode(Call(request).filename("path")) == name


def test_no_file_name_is_an_empty_one() -> None:
    assert Call(make_mocked_request("GET", "/x?paths=a")).filename("path") == ""


@given(st.binary(max_size=30))
def test_every_file_name_can_be_shown(name: bytes) -> None:
    text = os.fsdecode(name)
    shown = msgspec.json.decode(encode({"Names": [text, {text: 1}], "n": None}))
    expected = "".join("\ufffd" if "\udc80" <= one <= "\udcff" else one for one in text)
    assert shown == {"Names": [expected, {expected: 1}], "n": None}
