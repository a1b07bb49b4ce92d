"""Go's fmt.Sprintf for the values a template has.

Pure.

    verb = "%" { flag } [ width ] [ "." precision ] [ index ] letter
    flag = + - # space 0
    width, precision = digits | [ index ] "*"
    index = "[" number "]"      which argument is next, from 1
"""

from skiff.cli.template_values import NOTHING, general, go_syntax, show, show_plus, type_name
from skiff.docker.quoting import quoted


def sprintf(pattern: str, arguments: list[object]) -> str:
    """Never fails: what does not fit is written into the result, %!d(string=x), as Go does."""
    out: list[str] = []
    at, used, count = 0, 0, len(arguments)
    is_reordered = False
    while at < len(pattern):
        percent = pattern.find("%", at)
        if percent < 0:
            out.append(pattern[at:])
            break
        out.append(pattern[at:percent])
        at = percent + 1
        flags = ""
        while pattern[at : at + 1] in tuple("+-# 0"):
            flags += pattern[at]
            at += 1
        problem = ""
        width: int | None = None
        precision: int | None = None
        used, at, is_good = _indexed(pattern, at, used, count)
        is_reordered |= pattern[at - 1 : at] == "]"
        if pattern[at : at + 1] == "*":
            at += 1
            width, bad = _star(arguments, used)
            used += 1
            problem += "%!(BADWIDTH)" if bad else ""
            if width is not None and width < 0:
                width, flags = -width, flags + "-"
        else:
            width, at = _digits(pattern, at)
        if pattern[at : at + 1] == ".":
            at += 1
            used, at, fits = _indexed(pattern, at, used, count)
            is_good &= fits
            if pattern[at : at + 1] == "*":
                at += 1
                precision, bad = _star(arguments, used)
                used += 1
                problem += "%!(BADPREC)" if bad else ""
            else:
                precision, at = _digits(pattern, at)
                precision = precision or 0
        out.append(problem)
        used, at, fits = _indexed(pattern, at, used, count)
        is_good &= fits
        is_reordered |= pattern[at - 1 : at] == "]"
        if at >= len(pattern):
            out.append("%!(NOVERB)")
            break
        verb = pattern[at]
        at += 1
        if verb == "%":
            out.append("%")
        elif not is_good:
            out.append(f"%!{verb}(BADINDEX)")
        elif used >= len(arguments):
            out.append(f"%!{verb}(MISSING)")
        else:
            out.append(_verb(verb, flags, width, precision, arguments[used]))
            used += 1
    if used < count and not is_reordered:
        extra = ", ".join(_typed(argument) for argument in arguments[used:])
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _indexed(pattern: str, at: int, used: int, count: int) -> tuple[int, int, bool]:
    """`[n]`: (the argument that is next, where to read on, whether there is one)."""
    if pattern[at : at + 1] != "[":
        return used, at, True
    end = pattern.find("]", at)
    if end < 0:
        return used, at + 1, False
    number = pattern[at + 1 : end]
    if number.isascii() and number.isdecimal() and 1 <= int(number) <= count:
        return int(number) - 1, end + 1, True
    return used, end + 1, False


def _typed(value: object) -> str:
    if value is None or value is NOTHING:
        return "<nil>"
    return f"{type_name(value)}={show(value)}"


def _star(arguments: list[object], used: int) -> tuple[int | None, bool]:
    value = arguments[used] if used < len(arguments) else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1_000_000:
        return value, False
    return None, True


def _digits(pattern: str, at: int) -> tuple[int | None, int]:
    end = at
    while pattern[end : end + 1].isdecimal() and pattern[end].isascii():
        end += 1
    if end == at:
        return None, at
    return min(int(pattern[at:end]), 1_000_000), end


def _verb(verb: str, flags: str, width: int | None, precision: int | None, value: object) -> str:
    if verb == "T":
        return _pad("<nil>" if value is None or value is NOTHING else type_name(value), flags, width)
    if value is None or value is NOTHING:
        return _pad("<nil>" if verb == "v" else f"%!{verb}(<nil>)", flags, width)
    if verb == "v":
        if "#" in flags:
            return _pad(go_syntax(value), flags, width)
        if isinstance(value, (list, dict)):
            return _pad(show_plus(value) if "+" in flags else show(value), flags, None)
        if isinstance(value, float) and precision is None:
            plus = "+" if "+" in flags and value > 0 else ""
            return _number(plus + general(value), flags, width)
        verb = _natural_verb(value)
    if isinstance(value, list):
        return "[" + " ".join(_verb(verb, flags, width, precision, item) for item in value) + "]"
    if isinstance(value, dict):
        inner = " ".join(
            f"{_verb(verb, flags, width, precision, key)}:{_verb(verb, flags, width, precision, item)}"
            for key, item in sorted(value.items())
        )
        return f"map[{inner}]"
    text: str | None = None
    if isinstance(value, bool):
        text = show(value) if verb == "t" else None
    elif isinstance(value, int):
        return _integer(verb, flags, width, precision, value)
    elif isinstance(value, float):
        return _float(verb, flags, width, precision, value)
    elif isinstance(value, str):
        text = _string(verb, flags, precision, value)
    if text is None:
        return f"%!{verb}({_typed(value)})"
    return _pad(text, flags, width)


def _natural_verb(value: object) -> str:
    """What %v means for a basic value."""
    if isinstance(value, bool):
        return "t"
    if isinstance(value, int):
        return "d"
    return "g" if isinstance(value, float) else "s"


def _string(verb: str, flags: str, precision: int | None, value: str) -> str | None:
    if verb in "xX":
        data = value.encode("utf-8", "surrogateescape")[:precision]
        gap = " " if " " in flags else ""
        text = gap.join(f"{byte:02{verb}}" for byte in data)
        return ("0" + verb if "#" in flags and data else "") + text
    cut = value if precision is None else value[:precision]
    if verb == "s":
        return cut
    if verb == "q":
        if "#" in flags and "`" not in cut and cut.replace("\t", " ").isprintable():
            return f"`{cut}`"
        return quoted(cut)
    return None


_RADIX = {"d": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}


def _integer(verb: str, flags: str, width: int | None, precision: int | None, value: int) -> str:
    if verb in _RADIX:
        digits = format(abs(value), _RADIX[verb])
        if precision is not None:
            digits = "" if precision == 0 and value == 0 else digits.rjust(precision, "0")
        mark = {"x": "0x", "X": "0X", "o": "0", "b": "0b"}.get(verb, "") if "#" in flags else ""
        if verb == "O":
            mark = "0o"
        sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
        if "0" in flags and "-" not in flags and precision is None and width:
            digits = digits.rjust(width - len(sign) - len(mark), "0")
        return _pad(sign + mark + digits, flags.replace("0", ""), width)
    if verb == "c":
        return _pad(_rune(value), flags, width)
    if verb == "q":
        return _pad(
            "'" + quoted(_rune(value))[1:-1].replace('\\"', '"').replace("'", "\\'") + "'", flags, width
        )
    if verb == "U":
        return _pad(f"U+{value:04X}" + (f" '{_rune(value)}'" if "#" in flags else ""), flags, width)
    return f"%!{verb}(int={value})"


def _rune(value: int) -> str:
    return chr(value) if 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000 else "\ufffd"


def _float(verb: str, flags: str, width: int | None, precision: int | None, value: float) -> str:
    if verb not in "eEfFgG":
        return f"%!{verb}(float64={show(value)})"
    if value != value or value in (float("inf"), float("-inf")):
        text = general(value)
        return _pad(text if "+" in flags else text.lstrip("+"), flags.replace("0", ""), width)
    if verb in "gG" and precision is None:
        text = general(value)
        text = text.upper() if verb == "G" else text
    elif verb in "gG":
        text = format(value, f".{max(precision or 0, 1)}{verb}")
    else:
        text = format(value, f".{6 if precision is None else precision}{'f' if verb == 'F' else verb}")
    if not text.startswith("-"):
        text = ("+" if "+" in flags else " " if " " in flags else "") + text
    return _number(text, flags, width)


def _number(text: str, flags: str, width: int | None) -> str:
    if "0" in flags and "-" not in flags and width:
        sign = text[:1] if text[:1] in ("-", "+", " ") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return _pad(text, flags, width)


def _pad(text: str, flags: str, width: int | None) -> str:
    if width is None:
        return text
    if "-" in flags:
        return text.ljust(width)
    return text.rjust(width, "0" if "0" in flags else " ")
