"""Names of images on the command line."""

from hypothesis import example, given
from hypothesis import strategies as st

from skiff.cli.image import _parsed, repository_and_tag
from skiff.errors import InvalidParameter

PIECES = ["a", "b1", "Z", "0" * 64, "library", "localhost", "docker.io", "é", "x" * 130]
TEXTS = st.lists(st.sampled_from([*PIECES, "/", ":", ".", "-", "@", ""]), max_size=6).map("".join)


@given(TEXTS)
@example("busybox")
@example("team/app:v2")
def test_a_plain_name_needs_no_parser_but_means_the_same(text: str) -> None:
    assert _outcome(repository_and_tag, text) == _outcome(_parsed, text)


def _outcome(read, text: str) -> object:  # type: ignore[no-untyped-def]
    try:
        return read(text)
    except InvalidParameter as error:
        return str(error)
