import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import HostileArchive
from skiff.oci import layer


@pytest.mark.parametrize(
    ("name", "path"),
    [(b"a/b", b"a/b"), (b"./a//b/", b"a/b"), (b"/a", b"a"), (b"./", b""), (b"..a/b..", b"..a/b..")],
)
def test_clean(name: bytes, path: bytes) -> None:
    assert layer.clean(name) == path


@given(st.lists(st.sampled_from([b"a", b"b.c", b".d", b"...", b".", b""]), max_size=6))
def test_a_clean_path_has_neither_points_nor_empty_parts(parts: list[bytes]) -> None:
    path = layer.clean(b"/".join(parts))
    assert path.split(b"/") == ([part for part in parts if part not in (b"", b".")] or [b""])


@pytest.mark.parametrize("name", [b"..", b"a/../b", b"/..", b"a/..", b"a\0b"])
def test_names_that_leave_are_refused(name: bytes) -> None:
    with pytest.raises(HostileArchive):
        layer.clean(name)


@pytest.mark.parametrize(
    ("path", "sense"),
    [
        (b"a/b", ("ordinary", b"a/b")),
        (b"a.wh.b", ("ordinary", b"a.wh.b")),
        (b".wh.a/b", ("ordinary", b".wh.a/b")),
        (b"a/.wh.b", ("whiteout", b"a/b")),
        (b".wh.b", ("whiteout", b"b")),
        (b"a/.wh..wh..opq", ("opaque", b"a")),
        (b".wh..wh..opq", ("opaque", b"")),
        (b".wh..wh.plnk", ("skip", b".wh..wh.plnk")),
        (b"a/.wh..b", ("whiteout", b"a/.b")),
    ],
)
def test_sense(path: bytes, sense: tuple[str, bytes]) -> None:
    assert layer.sense(path) == sense


@pytest.mark.parametrize("path", [b".wh.", b"a/.wh.", b".wh..", b".wh...", b"a/.wh..."])
def test_whiteouts_of_nothing_are_refused(path: bytes) -> None:
    with pytest.raises(HostileArchive):
        layer.sense(path)


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda p: b"/" not in p), min_size=1))
def test_a_whiteout_hides_its_path(parts: list[bytes]) -> None:
    path = b"/".join(parts)
    if parts[-1] in (b".", b"..") or parts[-1].startswith(b".wh."):
        return
    assert layer.sense(layer.whiteout(path)) == ("whiteout", path)
    assert layer.sense(layer.opaque(path)) == ("opaque", path)
