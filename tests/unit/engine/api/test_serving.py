"""Who may come in at the registry's listener: htpasswd files, the header, hashes."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api.serving import NOBODY, _basic, users
from skiff.errors import InvalidParameter
from skiff.linux import passwords

ANN = "$2y$05$fYfhyscJLuZGxJToRaAnXOgIQ2TwahiqUIv.wCw7EQ7PZbiPv0bwK"  # pw


def test_a_file_of_names_and_hashes() -> None:
    assert users(f"# people\n\nann:{ANN}\n") == {"ann": ANN.encode()}
    for bad in ("ann", f":{ANN}", "ann:plain", "ann:$apr1$x$y", f"ann:{ANN[:-1]}"):
        with pytest.raises(InvalidParameter, match="invalid htpasswd, line 1"):
            users(bad)


def test_hashes_are_checked_by_the_c_library() -> None:
    assert passwords.matches(b"pw", ANN.encode())
    assert not passwords.matches(b"pw2", ANN.encode())
    assert not passwords.matches(b"pw\0", ANN.encode())
    assert not passwords.matches(b"", NOBODY)
    with pytest.raises(OSError, match="unknown kind of hash"):
        passwords.matches(b"pw", b"$nothing$")


@given(st.text(max_size=200))
def test_whatever_a_header_says(text: str) -> None:
    name, password = _basic(text)
    if name:
        assert text.partition(" ")[0].lower() == "basic"
    assert isinstance(password, str)


WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


@given(WORDS.filter(lambda name: name and ":" not in name), WORDS)
def test_a_name_and_a_password(name: str, password: str) -> None:
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    assert _basic(f"Basic {pair}") == (name, password)
