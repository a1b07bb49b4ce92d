import pytest

from skiff.engine.images import progress


@pytest.mark.parametrize(
    ("current", "total", "expected"),
    [
        (0, 0, "      0B"),
        (1234, 0, " 1.234kB"),
        (0, 100, "[>                                                  ]       0B/100B"),
        (50, 100, "[=========================>                         ]      50B/100B"),
        (100, 100, "[==================================================>]     100B/100B"),
        (200, 100, "    200B"),
    ],
)
def test_bar(current: int, total: int, expected: str) -> None:
    assert progress.bar(current, total) == expected


def test_lines() -> None:
    assert progress.line(progress.layer("Pull complete", "abc")) == (
        b'{"status":"Pull complete","progressDetail":{},"id":"abc"}\r\n'
    )
    assert progress.line(progress.message("Digest: x")) == b'{"status":"Digest: x"}\r\n'
    assert progress.line(progress.failure("no")) == b'{"errorDetail":{"message":"no"},"error":"no"}\r\n'
    moving = progress.line(progress.moving("Downloading", "abc", 1, 2))
    assert b'"progressDetail":{"current":1,"total":2},"progress":"[' in moving
