"""Here-documents: which ones a line opens, and where they end. Pure.

mark := [fd] "<<" ["-"] name        a word of its own; name may be quoted: then nothing in it is expanded
"""

import re
from collections.abc import Iterator

from msgspec import Struct

_MARK = re.compile(r"(\d*)<<(-?)([^<]*)")


class Heredoc(Struct, frozen=True):
    """content: as in the file, every line with its end. mark: the word as written."""

    name: str
    mark: str
    content: str = ""
    expand: bool = True
    chomp: bool = False
    descriptor: str = ""

    @property
    def text(self) -> str:
        """The content as it is meant: without leading tabs after `<<-`."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))

    def is_end(self, line: str) -> bool:
        """Whether this line ends the document."""
        line = line.rstrip("\r\n")
        return (line.lstrip("\t") if self.chomp else line) == self.name


def marks(line: str, escape: str) -> Iterator[Heredoc]:
    """The here-documents that a logical line opens, in order, yet without content."""
    for word in raw_words(line, escape):
        match = _MARK.fullmatch(word)
        if match is None:
            continue
        name = unquoted(match[3], escape)
        if name is not None and name and not any(blank in name for blank in " \t"):
            yield Heredoc(
                name=name, mark=word, expand=name == match[3], chomp=bool(match[2]), descriptor=match[1]
            )


def raw_words(line: str, escape: str) -> Iterator[str]:
    """The words of a shell line, with their quotes and escapes."""
    word, quote, position = "", "", 0
    while position < len(line):
        char = line[position]
        position += 1
        if char == escape and quote != "'" and position < len(line):
            word += char + line[position]
            position += 1
        elif quote:
            word += char
            quote = "" if char == quote else quote
        elif char in "\"'":
            word, quote = word + char, char
        elif char.isspace():
            if word:
                yield word
            word = ""
        else:
            word += char
    if word:
        yield word


def unquoted(word: str, escape: str) -> str | None:
    """The word without quotes and escapes; None while a quote is open."""
    result, quote, position = "", "", 0
    while position < len(word):
        char = word[position]
        position += 1
        if char == escape and quote != "'" and position < len(word):
            result += word[position]
            position += 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                result += char
        elif char in "\"'":
            quote = char
        else:
            result += char
    return None if quote else result
