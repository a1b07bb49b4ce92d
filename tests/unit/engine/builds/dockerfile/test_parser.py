"""Logical lines: directives, continuations, here-documents, flags, errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiff.engine.builds.dockerfile.errors import DockerfileError, Fault, suggestion
from skiff.engine.builds.dockerfile.parser import KEYWORDS, parse, parse_trigger
from skiff.engine.builds.dockerfile.stages import script


def texts(source: str) -> list[str]:
    return [line.text for line in parse(source.encode()).lines]


def test_comments_and_empty_lines_vanish_within_a_continued_line() -> None:
    document = parse(b"FROM a\nRUN x && \\\n  # why\n\n  y\nRUN z\n")
    assert [line.rest for line in document.lines] == ["a", "x &&   y", "z"]
    assert [(line.first, line.last) for line in document.lines] == [(1, 1), (2, 5), (6, 6)]
    assert document.empty_continuations == (5,)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("RUN a \\  \n b", ["RUN a  b"]),
        ("RUN a \\", ["RUN a"]),
        ("RUN a \\\\\nRUN b", ["RUN a \\\\", "RUN b"]),
        ("# escape=`\nRUN a `\n b \\\nRUN c", ["RUN a  b \\", "RUN c"]),
        ("\ufeffRUN a", ["RUN a"]),
        ("RUN a\r\nRUN b \\\r\n c\r\n", ["RUN a", "RUN b  c"]),
        ("run a\n  Run\tb", ["run a", "Run b"]),
        ("# no directive\n# escape=`\nRUN a \\\n b", ["RUN a  b"]),
        ("RUN # not a comment", ["RUN # not a comment"]),
    ],
)
def test_lines(source: str, expected: list[str]) -> None:
    assert texts(source) == expected


def test_here_documents_belong_to_their_line() -> None:
    (line,) = parse(b'RUN cat <<A 3<<-"B C" <<-D\none\nA\n\ttwo\n\tD\n').lines
    assert [(doc.name, doc.text, doc.expand, doc.chomp) for doc in line.heredocs] == [
        ("A", "one\n", True, False),
        ("D", "two\n", True, True),
    ]
    (quoted,) = parse(b"COPY <<'X' /y\n$a\nX\n").lines
    assert not quoted.heredocs[0].expand
    assert parse(b'RUN ["<<A"]').lines[0].heredocs == ()
    assert parse(b"RUN echo '<<A'\n").lines[0].heredocs == ()


def test_flags_come_off_the_head_with_their_quotes() -> None:
    (line,) = parse(b'COPY --from="a b" --link -- --x y').lines
    assert line.flags == ("--from=a b", "--link")
    assert line.rest == "--x y"
    assert parse(b"RUN echo --x").lines[0].flags == ()


def test_directives() -> None:
    document = parse(b"# syntax = docker/dockerfile:1\n# check=skip=A,B;error=true\nFROM a")
    assert document.directives.syntax == "docker/dockerfile:1"
    assert document.directives.check.skip == {"A", "B"}
    assert document.directives.check.error


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the Dockerfile cannot be empty"),
        ("# hi\n", "failed to parse Dockerfile: file with no instructions"),
        ("\n\n", "failed to parse Dockerfile: file with no instructions"),
        (
            "FROM a\nRUN b\nRNU c",
            "dockerfile parse error on line 3: unknown instruction: RNU (did you mean RUN?)",
        ),
        ("FROM a\nXYZZY c", "dockerfile parse error on line 2: unknown instruction: XYZZY"),
        ("FROM a\nRUN <<EOF\nhi", "failed to parse Dockerfile: unterminated heredoc"),
        ("# escape=x\nFROM a", "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\"),
        (
            "# escape=`\n# escape=`\nFROM a",
            "failed to parse Dockerfile: only one escape parser directive can be used",
        ),
        ("# check=foo\nFROM a", 'failed to parse check options: invalid check option "foo"'),
    ],
)
def test_errors(source: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(source.encode())
    assert str(caught.value) == message


def test_an_error_shows_its_place() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(b"FROM a\n  RNU b", "app.Dockerfile")
    assert (caught.value.line, caught.value.column) == (2, 3)
    assert caught.value.detail == ("\napp.Dockerfile:2:3\n   2 | >>>   RNU b")


@pytest.mark.parametrize(
    ("word", "meant"), [("RNU", "RUN"), ("COYP", "COPY"), ("ENTRYPONT", "ENTRYPOINT"), ("X", "")]
)
def test_suggestions(word: str, meant: str) -> None:
    assert suggestion(word, KEYWORDS) == (f" (did you mean {meant}?)" if meant else "")


_WORDS = st.sampled_from(
    [*KEYWORDS, "a", "b=c", "--from=x", "--mount=type=bind", "<<EOF", "EOF", "\\", "`", "\n", "\r\n", 
     "#", '"',
     "'", "$A", "${A:-b}", '["a"', "]", ",", " ", "\t", "AS", "NONE", "# escape=`\n", "\ufeff", "\x00", "é"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | st.lists(_WORDS, max_size=30).map(lambda w: " ".join(w).encode()))
def test_nothing_but_its_own_error(source: bytes) -> None:
    try:
        document = parse(source)
        for line in document.lines:
            assert line.keyword in KEYWORDS
            assert 0 < line.first <= line.last <= len(document.source)
        script(document)
    except DockerfileError as error:
        assert 0 <= error.line <= source.count(b"\n") + 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_triggers_fail_cleanly(text: str) -> None:
    try:
        parse_trigger(text)
    except Fault:
        pass
