import base64
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api import remote
from skiff.engine.api.call import Call
from skiff.engine.api.registry_auth import AuthConfig, credentials, domain, from_header
from skiff.engine.registry.auth import Credentials
from skiff.errors import InvalidParameter

CONFIG = b'{"username":"me","password":"p\xc3\xa4ss?>","serveraddress":"r.example"}'


@pytest.mark.parametrize(
    "header",
    [
        base64.urlsafe_b64encode(CONFIG).decode(),
        base64.urlsafe_b64encode(CONFIG).decode().rstrip("="),
        base64.b64encode(CONFIG).decode(),
    ],
)
def test_the_header_in_every_alphabet(header: str) -> None:
    assert from_header(header) == Credentials("me", "päss?>", "r.example")


def test_no_header_is_nobody() -> None:
    assert from_header("") is None
    assert from_header("e30=") == Credentials()


def test_auth_holds_both() -> None:
    assert credentials(AuthConfig(auth=base64.b64encode(b"me:pa:ss").decode())) == Credentials("me", "pa:ss")


@given(st.text(max_size=30))
def test_no_header_crashes_it(text: str) -> None:
    try:
        from_header(text)
    except InvalidParameter:
        pass


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("", "docker.io"),
        ("localhost:5000", "localhost:5000"),
        ("https://r.example/v2/", "r.example"),
    ],
)
def test_domains(address: str, expected: str) -> None:
    assert domain(address) == expected


def test_a_call_brings_who_asks() -> None:
    header = base64.urlsafe_b64encode(CONFIG).decode()
    request: Any = SimpleNamespace(headers={"X-Registry-Auth": header})
    assert remote._who(Call(request)) == Credentials("me", "päss?>", "r.example")
