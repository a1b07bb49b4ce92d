from datetime import UTC, datetime

import pytest

from skiff.engine.images.names import ImageRow, Names
from skiff.engine.storage.state import MemoryState
from skiff.errors import InvalidParameter, NotFound
from skiff.oci.digest import Digest, ImageID
from skiff.oci.reference import parse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = ImageID("sha256:" + "ab" * 32), ImageID("sha256:ab" + "cd" * 31)
MANIFEST = Digest("sha256:" + "0" * 64)


@pytest.fixture
def names() -> Names:
    names = Names(MemoryState())
    names.put(
        ImageRow(ONE, (), NOW), [(parse("a:1"), MANIFEST), (parse("a").with_digest(MANIFEST), MANIFEST)]
    )
    names.put(ImageRow(TWO, (), NOW), [(parse("b:latest"), None)])
    return names


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("a:1", ONE),
        ("docker.io/library/a:1", ONE),
        (f"a@{MANIFEST}", ONE),
        (f"a:whatever@{MANIFEST}", ONE),
        (f"a@{ONE}", ONE),
        ("b", TWO),
        (ONE, ONE),
        (ONE[7:], ONE),
        ("aba", ONE),
        ("sha256:abcd", TWO),
    ],
)
def test_find(names: Names, text: str, id: ImageID) -> None:
    assert names.find(text)[0] == id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "No such image: a:latest"),
        ("ab", "No such image: ab:latest"),  # two ids begin so
        ("deadbeef", "No such image: deadbeef:latest"),
        ("f" * 64, "No such image: sha256:" + "f" * 64),
        (f"b@{MANIFEST}", f"No such image: b@{MANIFEST}"),
        ("", "invalid reference format"),
    ],
)
def test_finds_nothing(names: Names, text: str, message: str) -> None:
    with pytest.raises((NotFound, InvalidParameter)) as missing:
        names.find(text)
    assert str(missing.value) == message


def test_a_name_moves(names: Names) -> None:
    names.put(names.image(TWO), [(parse("a:1"), None)])
    assert names.find("a:1")[0] == TWO
    assert names.tags(ONE) == []
    assert names.repo_digests(ONE) == [f"a@{MANIFEST}"]
    assert names.tags(TWO) == ["a:1", "b:latest"]


def test_what_is_stored_is_read_again() -> None:
    state = MemoryState()
    Names(state).put(ImageRow(ONE, (), NOW), [(parse("x:1"), None)])
    again = Names(state)
    assert again.find("x:1")[0] == ONE
    again.delete(ONE)
    assert Names(state).images() == []
    with pytest.raises(NotFound):
        Names(state).find("x:1")
