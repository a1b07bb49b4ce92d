"""What a terminal gets: bars drawn in place."""

import io

import pytest

from skiff.cli.progress import Refused, bar, follow


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_drawn_in_place() -> None:
    out = Terminal()
    follow(
        [
            {"status": "Pulling from library/a", "id": "latest"},
            {"status": "Waiting", "progressDetail": {}, "id": "1"},
            {"status": "Waiting", "progressDetail": {}, "id": "2"},
            {"status": "Downloading", "progressDetail": {"current": 5, "total": 10}, "id": "1"},
            {"status": "Done"},
        ],
        out,
        width=80,
    )
    assert out.getvalue().split("\x1b[2K\r") == [
        "latest: Pulling from library/a\n\n\x1b[1A",
        "1: Waiting \r\x1b[1B\n\x1b[1A",
        "2: Waiting \r\x1b[1B\x1b[2A",
        "1: Downloading       5B/10B\r\x1b[2BDone\n",
    ]


@pytest.mark.parametrize(
    ("detail", "width", "text"),
    [
        ({}, 200, ""),
        ({"current": 5, "total": 10}, 80, "      5B/10B"),
        ({"current": 1500}, 200, "   1.5kB"),
        ({"current": 3, "units": "s"}, 200, "3 s"),
        ({"current": 10, "total": 10}, 200, "[" + "=" * 50 + ">]      10B/10B"),
    ],
)
def test_a_bar(detail: dict[str, object], width: int, text: str) -> None:
    assert bar(detail, width) == text


def test_an_error_in_the_stream_is_raised() -> None:
    with pytest.raises(Refused, match="no such layer"):
        follow([{"errorDetail": {"message": "no such layer"}, "error": "x"}], io.StringIO())


def test_the_place_of_an_error_stands_beneath_it() -> None:
    told = {"message": "unknown instruction: RNU", "detail": "\nDockerfile:2:1\n   2 | >>> RNU x"}
    with pytest.raises(Refused) as caught:
        follow([{"errorDetail": told, "error": told["message"]}], io.StringIO())
    assert str(caught.value) == "unknown instruction: RNU\nDockerfile:2:1\n   2 | >>> RNU x"
