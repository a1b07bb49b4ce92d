r"""Dockerfile text → logical lines. Pure; what the lines mean is the business of reading.py.

    file    := directives { comment | empty | line }
    line    := keyword { "--" flag } rest { ESCAPE NEWLINE (comment | empty | more) } { here-document }
    escape  := "\" or "`", then only blanks, at the end of a physical line

A comment within a continued line is left out; so is an empty line, with a warning.
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from skiff.engine.builds.dockerfile.directives import Directives, directives
from skiff.engine.builds.dockerfile.errors import DockerfileError, Fault, located, suggestion
from skiff.engine.builds.dockerfile.heredoc import Heredoc, marks

KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")
_BLANK = " \t\v\f\r"
_FIRST_WORD = re.compile(r"([^ \t\v\f\r]+)[ \t\v\f\r]*(.*)", re.DOTALL)
LARGEST = 16 << 20  # bytes of a Dockerfile we agree to read


class Line(Struct, frozen=True, kw_only=True):
    """One instruction, not yet understood. first and last: its lines in the file, here-documents included."""

    keyword: str  # upper case
    written: str  # the keyword as written
    flags: tuple[str, ...]  # `--from=build`, quotes removed
    rest: str
    first: int
    last: int
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()  # the lines right above, without #

    @property
    def text(self) -> str:
        """As one line: how steps are shown and compared."""
        return " ".join(part for part in (self.written, *self.flags, self.rest) if part)

    @property
    def json(self) -> tuple[str, ...] | None:
        """The exec form: the strings of rest as a JSON array; None when it is not one.

        Fault: an array that holds something else than strings.
        """
        if not self.rest.startswith("["):
            return None
        try:
            value = msgspec.json.decode(self.rest.encode("utf-8", "replace"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not isinstance(value, list):
            return None
        if not all(isinstance(item, str) for item in value):
            message = "when using JSON array syntax, arrays must be comprised of strings only"
            raise Fault(message, near="[")
        return tuple(value)


class Document(Struct, frozen=True):
    """A Dockerfile in logical lines. source: its physical ones, without their ends."""

    directives: Directives
    lines: tuple[Line, ...]
    source: tuple[str, ...]
    empty_continuations: tuple[int, ...] = ()
    filename: str = "Dockerfile"

    def error(self, fault: Fault, line: Line, headings: Sequence[str] = ()) -> DockerfileError:
        """The fault, with the place of line. headings: see DockerfileError."""
        return located(fault, self.source, line.first, line.last, self.filename, headings)


def parse(data: bytes, filename: str = "Dockerfile") -> Document:
    """The logical lines. DockerfileError."""
    if len(data) > LARGEST:
        raise DockerfileError(f"{filename} of {len(data)} bytes: expected at most {LARGEST}")
    if not data:
        raise DockerfileError("the Dockerfile cannot be empty")
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    physical = _physical(text)
    source = tuple(line.rstrip("\r\n") for line in physical)
    head = directives(source, filename)
    return _Reader(physical, source, head, filename).document()


def parse_trigger(text: str) -> Line:
    """The line of an ONBUILD trigger as an image's config holds it, here-documents included. Fault."""
    try:
        lines = parse(text.encode("utf-8", "replace"), "ONBUILD").lines
    except DockerfileError as error:
        raise Fault(str(error)) from None
    if len(lines) != 1:
        raise Fault(f"ONBUILD trigger of {len(lines)} instructions: expected one")
    return lines[0]


def _physical(text: str) -> list[str]:
    """Lines with their ends. Only a line feed ends one, not what else str.splitlines takes for an end."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


class _Reader:
    def __init__(self, physical: list[str], source: tuple[str, ...], head: Directives, filename: str) -> None:
        self.physical = physical
        self.source = source
        self.head = head
        self.filename = filename
        self.at = 0  # index of the next physical line
        self.empty: list[int] = []
        escape = re.escape(head.escape)
        self.continued = re.compile(rf"(^|[^{escape}]){escape}[ \t]*$")

    def document(self) -> Document:
        lines: list[Line] = []
        comments: list[str] = []
        while self.at < len(self.source):
            line = self.source[self.at].strip()
            if line.startswith("#"):
                comments.append(line[1:].strip())
                self.at += 1
            elif not line:
                comments = []
                self.at += 1
            else:
                lines.append(self._logical(tuple(comments)))
                comments = []
        if not lines:
            fault = Fault("file with no instructions", kind="syntax")
            raise located(fault, self.source, 1, max(len(self.source), 1), self.filename)
        return Document(
            directives=self.head,
            lines=tuple(lines),
            source=self.source,
            empty_continuations=tuple(self.empty),
            filename=self.filename,
        )

    def _logical(self, comments: tuple[str, ...]) -> Line:
        first = self.at + 1
        text, more = self._without_escape(self.source[self.at].lstrip())
        parts = [text]
        self.at += 1
        blank_at = 0
        while more and self.at < len(self.source):
            physical = self.source[self.at]
            self.at += 1
            if physical.lstrip().startswith("#"):
                continue
            if not physical.strip():
                blank_at = blank_at or self.at
                continue
            text, more = self._without_escape(physical)
            parts.append(text)
        if blank_at:
            self.empty.append(self.at)
        joined = "".join(parts)
        try:
            heredocs = self._heredocs(joined)
            return _line(joined, first, self.at, heredocs, comments, self.head.escape)
        except Fault as fault:
            raise located(fault, self.source, first, self.at, self.filename) from None

    def _without_escape(self, line: str) -> tuple[str, bool]:
        match = self.continued.search(line)
        if match is None:
            return line, False
        return line[: match.end(1)], True

    def _heredocs(self, text: str) -> tuple[Heredoc, ...]:
        keyword, rest = _split(text)
        if keyword.upper() == "ONBUILD":
            keyword, rest = _split(rest)
        if keyword.upper() not in _WITH_HEREDOCS or "<<" not in rest or rest.lstrip().startswith("["):
            return ()
        found = []
        for heredoc in marks(rest, self.head.escape):
            content = []
            while True:
                if self.at >= len(self.physical):
                    raise Fault("unterminated heredoc", kind="syntax", near=heredoc.mark)
                line = self.physical[self.at]
                self.at += 1
                if heredoc.is_end(line):
                    break
                content.append(line)
            found.append(msgspec.structs.replace(heredoc, content="".join(content)))
        return tuple(found)


def _split(text: str) -> tuple[str, str]:
    match = _FIRST_WORD.match(text.lstrip(_BLANK))
    return (match[1], match[2].strip()) if match else ("", "")


def _line(
    text: str, first: int, last: int, heredocs: tuple[Heredoc, ...], comments: tuple[str, ...], escape: str
) -> Line:
    written, rest = _split(text)
    keyword = written.upper()
    if keyword not in KEYWORDS:
        hint = suggestion(written, KEYWORDS)
        raise Fault(f"unknown instruction: {written}{hint}", kind="grammar", near=written)
    flags: tuple[str, ...] = ()
    if keyword != "ONBUILD":
        flags, rest = _flags(rest, escape)
    return Line(
        keyword=keyword,
        written=written,
        flags=flags,
        rest=rest,
        first=first,
        last=last,
        heredocs=heredocs,
        comments=comments,
    )


def _flags(rest: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The words that begin with -- at the head, and what follows. `--` alone ends them."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(rest) and rest[position].isspace():
            position += 1
        if not rest.startswith("--", position):
            return tuple(flags), rest[position:]
        word, quote = "", ""
        while position < len(rest) and (quote or not rest[position].isspace()):
            char = rest[position]
            position += 1
            if char == escape and position < len(rest):
                word += rest[position]
                position += 1
            elif quote and char == quote:
                quote = ""
            elif not quote and char in "\"'":
                quote = char
            else:
                word += char
        if word == "--":
            return tuple(flags), rest[position:].lstrip()
        flags.append(word)
