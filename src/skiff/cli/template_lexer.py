"""Go text/template source → tokens.

Pure. Nothing here knows what a token means; positions count characters from the start, lines from 1.
Loaded only when a command was given --format.
"""

from __future__ import annotations

from skiff.docker.quoting import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KEYWORDS = frozenset(
    ("block", "break", "continue", "define", "else", "end", "if", "range", "template", "with")
)
BLANKS = " \t\r\n"


class TemplateError(Exception):
    """A template that cannot be parsed or executed. str() is Go's sentence, with its `template: …` prefix.

    written: what the template had produced before it failed.
    """

    written = ""


class Token:
    """kind: text, left, right, field, variable, identifier, keyword, string, char, number, dot, nil, bool,
    space, eof, or the mark itself: | , := = ( )
    """

    __slots__ = ("kind", "line", "position", "text")

    def __init__(self, kind: str, text: str, position: int, line: int) -> None:
        self.kind = kind
        self.text = text
        self.position = position
        self.line = line

    def __str__(self) -> str:
        """As Go shows a token in its messages."""
        if self.kind == "eof":
            return "EOF"
        if self.kind in ("keyword", "dot", "nil"):
            return f"<{self.text}>"
        return quoted(self.text[:10]) + "..." if len(self.text) > 10 else quoted(self.text)


class Lexer:
    """tokens() yields the tokens lazily, so that a mistake later in the text does not hide an earlier one."""

    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name
        self.line = 1

    def fail(self, message: str) -> TemplateError:
        return TemplateError(f"template: {self.name}:{self.line}: {message}")

    def tokens(self) -> Iterator[Token]:
        source, size = self.source, len(self.source)
        at, trim_left = 0, False
        while True:
            start = source.find("{{", at)
            text = source[at:] if start < 0 else source[at:start]
            shown = text.lstrip(BLANKS) if trim_left else text
            skipped = len(text) - len(shown)
            self.line += text[:skipped].count("\n")
            trims_before = start >= 0 and self._trims(start + 2)
            kept = shown.rstrip(BLANKS) if trims_before else shown
            if kept:
                yield Token("text", kept, at + skipped, self.line)
            self.line += shown.count("\n")
            if start < 0:
                yield Token("eof", "", size, self.line)
                return
            at = start + 2 + (2 if trims_before else 0)
            if source.startswith("/*", at):
                at, trim_left = self._comment(at)
                continue
            yield Token("left", "{{", start, self.line)
            depth = 0
            while True:
                closing = self._closing(at)
                if closing:
                    if depth:
                        raise self.fail("unclosed left paren")
                    yield Token("right", "}}", at, self.line)
                    at += closing
                    trim_left = closing == 4
                    break
                if at >= size:
                    raise self.fail("unclosed action")
                token, at = self._inside(at)
                if token.kind == "(":
                    depth += 1
                elif token.kind == ")":
                    depth -= 1
                    if depth < 0:
                        raise self.fail("unexpected right paren")
                yield token

    def _trims(self, at: int) -> bool:
        return self.source[at : at + 1] == "-" and self.source[at + 1 : at + 2] in tuple(BLANKS)

    def _closing(self, at: int) -> int:
        """The length of `}}` or ` -}}` here, else 0."""
        if self.source.startswith("}}", at):
            return 2
        if self.source[at : at + 1] in tuple(BLANKS) and self.source.startswith("-}}", at + 1):
            self.line += self.source[at] == "\n"
            return 4
        return 0

    def _comment(self, at: int) -> tuple[int, bool]:
        end = self.source.find("*/", at + 2)
        if end < 0:
            raise self.fail("unclosed comment")
        closing = self._closing(end + 2)
        if not closing:
            raise self.fail("comment ends before closing delimiter")
        self.line += self.source.count("\n", at, end)
        return end + 2 + closing, closing == 4

    def _inside(self, at: int) -> tuple[Token, int]:
        source = self.source
        char = source[at]
        line = self.line

        def made(kind: str, end: int) -> tuple[Token, int]:
            return Token(kind, source[at:end], at, line), end

        if char in BLANKS:
            end = at
            while source[end : end + 1] in tuple(BLANKS) and not (end > at and self._peeks_trim(end)):
                self.line += source[end] == "\n"
                end += 1
            return made("space", end)
        if char in "|,()=":
            return made(char, at + 1)
        if char == ":":
            if source[at + 1 : at + 2] != "=":
                raise self.fail("expected :=")
            return made(":=", at + 2)
        if char == '"':
            return made("string", self._quoted(at, '"', "unterminated quoted string"))
        if char == "`":
            end = source.find("`", at + 1)
            if end < 0:
                raise self.fail("unterminated raw quoted string")
            self.line += source.count("\n", at, end)
            return made("string", end + 1)
        if char == "'":
            return made("char", self._quoted(at, "'", "unterminated character constant"))
        if char == "." and not source[at + 1 : at + 2].isdecimal():
            end = self._word(at + 1)
            self._ends_word(end, source[at:end])
            return made("field" if end > at + 1 else "dot", end)
        if char == "$":
            end = self._word(at + 1)
            self._ends_word(end, source[at:end])
            return made("variable", end)
        if char in "+-." or char.isdecimal():
            end = at + 1
            while end < len(source) and (
                source[end].isalnum() or source[end] in "._" or self._is_sign(at, end)
            ):
                end += 1
            if not _reads_as_number(source[at:end]):
                raise self.fail(f"bad number syntax: {quoted(source[at:end])}")
            return made("number", end)
        if char == "_" or char.isalpha():
            end = self._word(at)
            word = source[at:end]
            self._ends_word(end, word)
            if word in KEYWORDS:
                return made("keyword", end)
            if word in ("true", "false"):
                return made("bool", end)
            return made("nil" if word == "nil" else "identifier", end)
        if char.isprintable() and char.isascii():
            return made("mark", at + 1)
        raise self.fail(f"unrecognized character in action: {character(char)}")

    def _is_sign(self, start: int, at: int) -> bool:
        return self.source[at] in "+-" and self.source[at - 1] in "eE" and "x" not in self.source[start:at]

    def _peeks_trim(self, at: int) -> bool:
        return self.source.startswith("-}}", at + 1)

    def _word(self, at: int) -> int:
        while at < len(self.source) and (self.source[at] == "_" or self.source[at].isalnum()):
            at += 1
        return at

    def _ends_word(self, at: int, word: str) -> None:
        if at < len(self.source):
            char = self.source[at]
            if char not in " \t\r\n.,|:=()" and not self.source.startswith("}}", at):
                raise self.fail(f"bad character {character(char)}")

    def _quoted(self, at: int, mark: str, message: str) -> int:
        end = at + 1
        while end < len(self.source) and self.source[end] not in ("\n", mark):
            end += 2 if self.source[end] == "\\" else 1
        if self.source[end : end + 1] != mark:
            raise self.fail(message)
        return end + 1


def character(char: str) -> str:
    """As %#U: U+0021 '!'."""
    return f"U+{ord(char):04X} '{char}'" if char.isprintable() else f"U+{ord(char):04X}"


def _reads_as_number(text: str) -> bool:
    digits = text.lstrip("+-")
    if not digits or not (digits[0].isdecimal() or digits[0] == "."):
        return False
    return number(text) is not None


def number(text: str) -> int | float | complex | None:
    """A Go number constant: 12, 0x1F, 0b1, 0o7, 017, 1_000, 1.5e3, 2i. None when it is none."""
    if text.endswith("i"):
        part = number(text[:-1])
        return None if part is None or isinstance(part, complex) else complex(0, part)
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-") if text[1:2] not in ("+", "-") else ""
    if not digits or not digits.isascii():
        return None
    try:
        if digits[0] == "0" and digits[1:].replace("_", "").isdecimal():
            return sign * int(digits.replace("_", ""), 8)
        return sign * int(digits, 0)
    except ValueError:
        pass
    try:
        return sign * float(digits) if digits[0] in "0123456789." else None
    except ValueError:
        return None


def unquoted(token: str) -> str | None:
    r"""The string that a "quoted" or `raw` constant means; None for an escape Go does not know."""
    if token[0] == "`":
        return token[1:-1].replace("\r", "")
    out = []
    body, at = token[1:-1], 0
    raw = bytearray()
    while at < len(body):
        char = body[at]
        if char != "\\":
            out.append(char)
            at += 1
            continue
        mark = body[at + 1 : at + 2]
        width = {"x": 2, "u": 4, "U": 8}.get(mark)
        try:
            if width:
                digits = body[at + 2 : at + 2 + width]
                if len(digits) != width:
                    return None
                code = int(digits, 16)
                at += 2 + width
                if mark == "x" and code >= 0x80:
                    raw.append(code)
                    while body[at : at + 2] == "\\x":
                        raw.append(int(body[at + 2 : at + 4], 16))
                        at += 4
                    out.append(raw.decode("utf-8", "replace"))
                    raw.clear()
                else:
                    out.append(chr(code))
            elif mark in tuple("01234567"):
                out.append(chr(int(body[at + 1 : at + 4], 8)))
                at += 4
            else:
                out.append(UNESCAPED[mark])
                at += 2
        except (ValueError, KeyError, OverflowError):
            return None
    return "".join(out)


UNESCAPED = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}
