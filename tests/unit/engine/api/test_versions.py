import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.engine.api.versions import NEWEST, negotiate, split
from skiff.errors import InvalidParameter


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/info", ("/info", None)),
        ("/v1.47/info", ("/info", (1, 47))),
        ("/v1.24/containers/v1.24/json", ("/containers/v1.24/json", (1, 24))),
        ("/version", ("/version", None)),
        ("/volumes/x", ("/volumes/x", None)),
        ("/v1.47", ("/v1.47", None)),
        ("/v1.47/", ("/", (1, 47))),
        ("/v1/info", ("/v1/info", None)),
        ("/vx.y/info", ("/vx.y/info", None)),
        ("/v1.٤/info", ("/v1.٤/info", None)),
    ],
)
def test_the_prefix_is_split_off(path: str, expected: object) -> None:
    assert split(path) == expected


def test_no_version_is_the_newest() -> None:
    assert negotiate(None) == NEWEST


@pytest.mark.parametrize("asked", [(1, 24), (1, 41), (1, 51)])
def test_versions_that_are_spoken(asked: tuple[int, int]) -> None:
    assert negotiate(asked) == asked


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            (1, 23),
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ((1, 99), "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ((2, 0), "client version 2.0 is too new. Maximum supported API version is 1.51"),
    ],
)
def test_versions_that_are_not(asked: tuple[int, int], says: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        negotiate(asked)
    assert str(refused.value) == says


@given(st.text(max_size=20))
def test_no_path_crashes_it(rest: str) -> None:
    path, version = split("/v" + rest)
    assert path.startswith("/")
    assert version is None or len(version) == 2
