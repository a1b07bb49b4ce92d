"""Variables in a Dockerfile's words: `$NAME`, `${NAME:-word}`, quotes and escapes. Pure.

    word     := { text | quoted | variable | ESCAPE char }
    quoted   := "'" … "'"  |  '"' { text | variable | ESCAPE ('"' | "$" | ESCAPE) } '"'
    variable := "$" NAME | "$" SPECIAL | "${" NAME [modifier] "}"
    modifier := [":"] ("-" | "+" | "?") word  |  ("#" | "##" | "%" | "%%") pattern
              | ("/" | "//") pattern "/" word

A name that is not set expands to nothing and is noted in `undefined`.
"""

import re
from collections.abc import Mapping

from skiff.engine.builds.dockerfile.errors import Fault

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = "@*#?-$!0123456789"
_DEEPEST = 64  # nested ${A:-${B:-…}}


class Expansion:
    """Expands words with one set of variables; remembers which names it found, and which it did not."""

    def __init__(self, variables: Mapping[str, str], escape: str = "\\") -> None:
        self.variables = variables
        self.escape = escape
        self.undefined: dict[str, None] = {}
        self.used: dict[str, None] = {}

    def word(self, text: str) -> str:
        """The text as one word, whatever blanks it holds; quotes removed. Fault."""
        return self._scanner(text).whole()

    def words(self, text: str) -> list[str]:
        """The text split at blanks that stand outside of quotes, the variables' own blanks too. Fault."""
        scanner = self._scanner(text, splits=True)
        scanner.whole()
        return scanner.words

    def content(self, text: str) -> str:
        """The text with variables replaced and nothing else touched: a here-document. Fault."""
        return self._scanner(text, keeps_quotes=True).whole()

    def _scanner(self, text: str, *, splits: bool = False, keeps_quotes: bool = False) -> "_Scanner":
        return _Scanner(self, text, splits=splits, keeps_quotes=keeps_quotes)

    def look_up(self, name: str) -> str | None:
        self.used[name] = None
        return self.variables.get(name)


class _Scanner:
    def __init__(
        self, owner: Expansion, text: str, *, splits: bool, keeps_quotes: bool, depth: int = 0
    ) -> None:
        self.owner = owner
        self.text = text
        self.at = 0
        self.splits = splits
        self.keeps_quotes = keeps_quotes
        self.depth = depth
        self.words: list[str] = []
        self.word: str | None = None  # the one being made, when splitting

    def fault(self, message: str) -> Fault:
        quoted = '"' + self.text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return Fault(f"failed to process {quoted}: {message}", near=self.text)

    def whole(self) -> str:
        result = self.until("")
        if self.word is not None:
            self.words.append(self.word)
        return result

    def until(self, stop: str) -> str:
        """Up to one of the stop characters, which is not taken; the end of the text without any."""
        result: list[str] = []
        escape = self.owner.escape
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in stop:
                break
            if char == "'" and not self.keeps_quotes:
                piece = self._single()
            elif char == '"' and not self.keeps_quotes:
                piece = self._double()
            elif char == "$":
                piece = self._variable()
                self._grow(piece, splittable=True)
                result.append(piece)
                continue
            elif char == escape:
                piece = self._escaped()
            else:
                self.at += 1
                if self.splits and self.depth == 0 and char.isspace():
                    self._end_word()
                    continue
                piece = char
            self._grow(piece, splittable=False)
            result.append(piece)
        return "".join(result)

    def _grow(self, piece: str, *, splittable: bool) -> None:
        if not self.splits or self.depth:
            return
        if not splittable or not any(char.isspace() for char in piece):
            if piece or not splittable:
                self.word = (self.word or "") + piece
            return
        for part in re.split(r"(\s+)", piece):
            if part.isspace():
                self._end_word()
            elif part:
                self.word = (self.word or "") + part

    def _end_word(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
        self.word = None

    def _escaped(self) -> str:
        """What an escape protects; the escape itself is gone."""
        following = self.text[self.at + 1 : self.at + 2]
        self.at += 2
        return following

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self.fault("unexpected end of statement while looking for matching single-quote")
        piece = self.text[self.at + 1 : end]
        self.at = end + 1
        return piece

    def _double(self) -> str:
        result: list[str] = []
        escape = self.owner.escape
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return "".join(result)
            if char == "$":
                result.append(self._variable())
            elif char == escape:
                following = self.text[self.at + 1 : self.at + 2]
                if following in ('"', "$", escape) and following:
                    result.append(following)
                else:
                    result.append(escape + following)
                self.at += 2
            else:
                result.append(char)
                self.at += 1
        raise self.fault("unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        self.at += 1  # $
        if self.text.startswith("{", self.at):
            return self._braced()
        match = _NAME.match(self.text, self.at)
        if match:
            self.at = match.end()
            return self._value(match[0]) or ""
        if self.at < len(self.text) and self.text[self.at] in _SPECIAL:
            self.at += 1
            return self._value(self.text[self.at - 1]) or ""
        return "$"

    def _value(self, name: str) -> str | None:
        value = self.owner.look_up(name)
        if value is None:
            self.owner.undefined[name] = None
        return value

    def _braced(self) -> str:
        self.at += 1  # {
        if self.at >= len(self.text):
            raise self.fault("syntax error: missing '}'")
        match = _NAME.match(self.text, self.at)
        if match:
            name = match[0]
        elif self.text[self.at] in _SPECIAL:
            name = self.text[self.at]
        else:
            raise self.fault("syntax error: bad substitution")
        self.at += len(name)
        following = self.text[self.at : self.at + 1]
        if following == "}":
            self.at += 1
            return self._value(name) or ""
        if not following:
            raise self.fault("syntax error: missing '}'")
        if following in ":-+?":
            return self._conditional(name)
        if following in "#%":
            return self._trimmed(name)
        if following == "/":
            return self._replaced(name)
        raise self.fault(f"unsupported modifier ({following}) in substitution")

    def _conditional(self, name: str) -> str:
        """`:-` and its kin: with the colon an empty value counts as unset."""
        colon = self.text[self.at] == ":"
        self.at += colon
        operator = self.text[self.at : self.at + 1]
        if not operator or operator not in "-+?":
            raise self.fault(f"unsupported modifier ({':' if colon else ''}{operator}) in substitution")
        self.at += 1
        word = self._operand("}")
        self.at += 1
        value = self.owner.look_up(name)
        is_set = bool(value) if colon else value is not None
        if operator == "-":
            return (value or "") if is_set else word
        if operator == "+":
            return word if is_set else ""
        if not is_set:
            reason = word or f"is not allowed to be {'empty' if value is not None else 'unset'}"
            raise self.fault(f"{name}: {reason}")
        return value or ""

    def _trimmed(self, name: str) -> str:
        operator = self.text[self.at]
        greedy = self.text.startswith(operator * 2, self.at)
        self.at += 2 if greedy else 1
        pattern = self._operand("}", is_pattern=True)
        self.at += 1
        value = self._value(name) or ""
        wildcard = _regex(pattern, self.owner.escape)
        lengths = range(len(value) + 1)
        for length in reversed(lengths) if greedy else lengths:
            if operator == "#" and wildcard.fullmatch(value[:length]):
                return value[length:]
            if operator == "%" and wildcard.fullmatch(value[len(value) - length :]):
                return value[: len(value) - length]
        return value

    def _replaced(self, name: str) -> str:
        every = self.text.startswith("//", self.at)
        self.at += 2 if every else 1
        pattern = self._operand("/}", is_pattern=True)
        if self.text[self.at] != "/":
            raise self.fault("syntax error: missing '/' in ${}")
        self.at += 1
        replacement = self._operand("}")
        self.at += 1
        value = self._value(name) or ""
        if not pattern:
            return value
        wildcard = _regex(pattern, self.owner.escape, greedy=True)
        return wildcard.sub(lambda _: replacement, value, count=0 if every else 1)

    def _operand(self, stop: str, *, is_pattern: bool = False) -> str:
        """The text up to a stop character outside of quotes and braces, itself expanded."""
        if self.depth >= _DEEPEST:
            raise self.fault("substitution nested too deeply")
        keeps_quotes = is_pattern or self.keeps_quotes
        inner = _Scanner(self.owner, self.text, splits=False, keeps_quotes=keeps_quotes, depth=self.depth + 1)
        inner.at = self.at
        value = inner.until(stop) if not is_pattern else inner.pattern(stop)
        self.at = inner.at
        if self.at >= len(self.text):
            raise self.fault("syntax error: missing '}'")
        return value

    def pattern(self, stop: str) -> str:
        """Up to a stop character that no escape protects; escapes stay, for the pattern needs them."""
        result: list[str] = []
        while self.at < len(self.text) and self.text[self.at] not in stop:
            if self.text[self.at] == "$":
                result.append(self._variable())
                continue
            width = 2 if self.text[self.at] == self.owner.escape else 1
            result.append(self.text[self.at : self.at + width])
            self.at += width
        return "".join(result)


def _regex(pattern: str, escape: str, *, greedy: bool = False) -> re.Pattern[str]:
    """`*` any text, `?` one character; an escape protects the next one.

    Not greedy, it is for whole matches only: between two stars the first place that fits is as good as any,
    so nothing is tried twice.
    """
    pieces: list[list[str]] = [[]]  # the text between stars
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == escape and position < len(pattern):
            pieces[-1].append(re.escape(pattern[position]))
            position += 1
        elif char == "*":
            if pieces[-1] or len(pieces) == 1:  # `**` is `*`
                pieces.append([])
        else:
            pieces[-1].append("." if char == "?" else re.escape(char))
    texts = ["".join(piece) for piece in pieces]
    if greedy or len(texts) < 3:
        return re.compile(".*".join(texts), re.DOTALL)
    inner = "".join(f"(?>.*?{text})" for text in texts[1:-1])
    return re.compile(f"{texts[0]}{inner}.*{texts[-1]}", re.DOTALL)
