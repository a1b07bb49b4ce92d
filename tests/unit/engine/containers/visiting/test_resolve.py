"""Paths inside a container as Docker reads them."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.containers.visiting import resolve


@pytest.mark.parametrize(
    ("given_path", "expected", "name", "content"),
    [
        (b"/", b"/", b"/", True),
        (b"", b"/", b"/", True),
        (b".", b"/.", b".", True),
        (b"/a", b"/a", b"a", False),
        (b"a/b", b"/a/b", b"b", False),
        (b"/a/", b"/a/", b"a", True),
        (b"/a/.", b"/a/.", b".", True),
        (b"/a/.//", b"/a/.", b".", True),
        (b"./", b"/.", b".", True),
        (b"/a/../b", b"/b", b"b", False),
        (b"/../../x", b"/x", b"x", False),
    ],
)
def test_trailing_parts_keep_their_meaning(
    given_path: bytes, expected: bytes, name: bytes, *, content: bool
) -> None:
    path = resolve.absolute(given_path)
    assert path == expected
    assert resolve.base(path) == name
    assert resolve.means_content(path) is content


@given(st.binary(max_size=60).filter(lambda path: b"\0" not in path))
def test_nothing_climbs_out(path: bytes) -> None:
    found = resolve.absolute(path)
    assert found.startswith(b"/")
    assert b".." not in found.split(b"/")
    assert b".." not in resolve.resolved(found, last=False).split(b"/")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "up").symlink_to(f"{tmp_path}/../../../../../../../{tmp_path}/l/x")
    top = os.fsencode(tmp_path)
    assert resolve.resolved(top + b"/l", last=False) == top + b"/l"
    assert resolve.resolved(top + b"/l", last=True) == top + b"/d"
    assert resolve.resolved(top + b"/up", last=True) == top + b"/d/x"


def test_a_ring_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(resolve.TooManyLinks):
        resolve.resolved(os.fsencode(tmp_path / "a"), last=True)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFDIR | 0o755, 2147484141),
        (stat.S_IFDIR | 0o1777, 2148532735),
        (stat.S_IFREG | 0o4755, 8389101),
        (stat.S_IFLNK | 0o777, 134218239),
        (stat.S_IFIFO | 0o644, 33554852),
        (stat.S_IFCHR | 0o666, 69206454),
    ],
)
def test_modes_are_gos(mode: int, expected: int) -> None:
    assert resolve.file_mode(mode) == expected


def test_instants_have_no_more_digits_than_needed() -> None:
    assert resolve.instant(1577934245 * 10**9) == "2020-01-02T03:04:05Z"
    assert resolve.instant(1577934245 * 10**9 + 120_000_000) == "2020-01-02T03:04:05.12Z"
