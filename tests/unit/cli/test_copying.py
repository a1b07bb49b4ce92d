"""Where cp puts things: docker's table of cases."""

import pytest

from skiff.cli.copying import Place, absolute, arranged, split
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c:/a", ("c", "/a")),
        ("c:a", ("c", "a")),
        ("c:", ("c", "")),
        (":/a", ("", "/a")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("a", ("", "a")),
        ("-", ("", "-")),
    ],
)
def test_containers_are_told_from_paths(text: str, expected: tuple[str, str]) -> None:
    assert split(text) == expected


def _place(path: str, kind: str) -> Place:
    return Place(path, exists=kind != "nothing", is_directory=kind == "directory")


@pytest.mark.parametrize(
    ("source", "kind", "target", "there", "expected"),
    [
        ("/s/f", "file", "/t/x", "nothing", ("/t", "x")),
        ("/s/f", "file", "/t/x", "file", ("/t", "x")),
        ("/s/f", "file", "/t", "directory", ("/t", "f")),
        ("/s/f", "file", "/t/", "directory", ("/t", "f")),
        ("/s/f", "file", "/", "directory", ("/", "f")),
        ("/s/d", "directory", "/t", "directory", ("/t", "d")),
        ("/s/d", "directory", "/t/x", "nothing", ("/t", "x")),
        ("/s/d", "directory", "/t/x/", "nothing", ("/t", "x")),
        ("/s/d/.", "directory", "/t", "directory", ("/t", "")),
        ("/s/d/.", "directory", "/t/x", "nothing", ("/t", "x")),
        ("/s/d", "directory", "/t/x/.", "nothing", ("/t/x", ".")),  # and so it fails: nothing is there
        ("/s/f", "file", "/t/x/.", "file", ("/t/x", ".")),
    ],
)
def test_the_table(source: str, kind: str, target: str, there: str, expected: tuple[str, str]) -> None:
    assert arranged(_place(source, kind), source.rpartition("/")[2], _place(target, there)) == expected


def test_what_cannot_be() -> None:
    with pytest.raises(InvalidParameter, match="cannot copy directory"):
        arranged(_place("/d", "directory"), "d", _place("/f", "file"))
    with pytest.raises(InvalidParameter, match="no such directory"):
        arranged(_place("/f", "file"), "f", _place("/t/", "nothing"))


def test_trailing_parts_stay() -> None:
    assert [absolute(path) for path in ("/a/../b", "/a/.", "/a/.//", "/a/", "/", "/.")] == [
        *("/b", "/a/.", "/a/.", "/a/", "/", "/.")
    ]
