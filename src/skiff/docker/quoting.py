"""Text and characters as Go prints them with %q: many of Docker's messages do. Pure, without imports."""

_ESCAPES = {
    "\\": "\\\\",
    "\n": "\\n",
    "\t": "\\t",
    "\r": "\\r",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}


def quoted(text: str) -> str:
    """strconv.Quote."""
    return '"' + "".join('\\"' if char == '"' else _escaped(char) for char in text) + '"'


def quoted_rune(number: int) -> str:
    """strconv.QuoteRune; what is no character is the replacement one."""
    if not 0 <= number <= 0x10FFFF:
        return "'\ufffd'"
    return "'" + ("\\'" if number == 0x27 else _escaped(chr(number))) + "'"


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
