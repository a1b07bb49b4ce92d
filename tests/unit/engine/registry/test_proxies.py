"""Which proxy a request goes through, as Go programs decide it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.registry.proxies import Proxies, checked, from_environment, masked
from skiff.errors import InvalidParameter

URL = "https://registry.example.org:5000/v2/"


@pytest.mark.parametrize(
    ("no_proxy", "spared"),
    [
        ("", False),
        ("*", True),
        ("example.org", True),
        ("registry.example.org", True),
        (".example.org", True),
        ("*.example.org", True),
        ("REGISTRY.example.org", True),
        (".registry.example.org", False),
        ("ample.org", False),
        ("example.org:5000", True),
        ("example.org:443", False),
        ("other.lan, example.org", True),
        ("10.0.0.0/8", False),
    ],
)
def test_names_that_are_spared(no_proxy: str, spared: bool) -> None:
    assert Proxies("", "http://proxy:3128", no_proxy).of(URL) == ("" if spared else "http://proxy:3128")


@pytest.mark.parametrize(
    ("url", "no_proxy", "spared"),
    [
        ("http://10.1.2.3:5000/", "10.0.0.0/8", True),
        ("http://10.1.2.3:5000/", "10.1.2.3", True),
        ("http://10.1.2.3:5000/", "10.1.2.3:80", False),
        ("http://11.1.2.3/", "10.0.0.0/8", False),
        ("http://[fd00::1]:5000/", "fd00::/8", True),
        ("http://[fd00::1]:5000/", "[fd00::1]:5000", True),
        ("http://127.0.0.1:5000/", "", True),
        ("http://[::1]/", "", True),
        ("http://localhost:5000/", "", True),
    ],
)
def test_addresses_that_are_spared(url: str, no_proxy: str, spared: bool) -> None:
    assert Proxies("proxy:3128", "", no_proxy).of(url) == ("" if spared else "http://proxy:3128")


def test_the_environment() -> None:
    found = from_environment({"HTTP_PROXY": "a:1", "https_proxy": "b:2", "no_proxy": "c", "NO_PROXY": "d"})
    assert found == Proxies("a:1", "b:2", "d")
    assert found.of("http://x/") == "http://a:1"
    assert found.of("https://x/") == "http://b:2"


def test_passwords_are_not_shown() -> None:
    assert masked("http://me:s3cret@proxy:3128") == "http://xxxxx:xxxxx@proxy:3128"
    assert masked("http://proxy:3128") == "http://proxy:3128"
    assert checked("proxy:3128") == "proxy:3128"
    for bad in ("ftp://me:s3cret@proxy", "http://me:s3cret@", "http://me:s3cret@proxy:port"):
        with pytest.raises(InvalidParameter) as refused:
            checked(bad)
        assert "s3cret" not in str(refused.value)


@given(st.text(max_size=40), st.sampled_from(["https://a.b:1/", "http://10.0.0.1/", "http://[::2]/"]))
def test_whatever_is_listed(no_proxy: str, url: str) -> None:
    assert Proxies("p", "p", no_proxy).of(url) in ("", "http://p")
