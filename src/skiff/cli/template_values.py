"""How Go sees and prints the values a template handles.

Pure. JSON has fewer kinds than Go: a struct and a map are both objects. `shaped` data (cli/shapes.py) marks
the difference, because templates treat them differently:

    Record   a struct: a wrong field is an error; prints {a b}
    Map      a map: a missing key is <no value>; prints map[k:v]; `zero` is what `index` gives for it
    NilMap, NilList   null in JSON, empty elsewhere
    None     a nil pointer        NOTHING  no value at all
"""

from skiff.docker.quoting import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Record(dict[str, object]):
    """kind: the Go type's name, for messages. A value may be a callable: a method."""

    kind = "struct"
    escapes_html = False  # it makes its own JSON, with < > & escaped
    has_methods = False  # its fields are called

    def shown(self) -> "Iterable[tuple[str, object]]":
        """What %v prints, in Go's order."""
        return ((key, item) for key, item in self.items() if not callable(item))

    def encoded(self) -> "Iterable[tuple[str, object]]":
        """What JSON has."""
        return ((key, self[key]) for key in self if not callable(self[key]))


class Map(dict[str, object]):
    zero: object = ""


class NilMap(Map):
    pass


class NilList(list[object]):
    pass


class _Nothing:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NOTHING"


NOTHING = _Nothing()


class Verbatim(str):
    """A number whose digits must stay as they were written."""


def type_name(value: object) -> str:
    """As reflect.Type prints."""
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case complex():
            return "complex128"
        case Verbatim():
            return "json.Number"
        case str():
            return "string"
        case bytes():
            return "[]uint8"
        case Record():
            return value.kind
        case Map():
            return f"map[string]{type_name(value.zero)}"
        case dict():
            return "map[string]interface {}"
        case list():
            if value and all(isinstance(item, str) for item in value):
                return "[]string"
            return "[]interface {}"
        case None:
            return "<nil>"
    return "func()" if callable(value) else "interface {}"


def is_true(value: object) -> bool:
    """text/template's truth."""
    if isinstance(value, Record) or callable(value):
        return True
    return bool(value)


def show(value: object) -> str:
    """%v."""
    return _show(value, False, top=True)


def show_plus(value: object) -> str:
    """%+v: with the names of a struct's fields."""
    return _show(value, True, top=True)


def _show(value: object, named: bool, *, top: bool = False) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case float():
            return general(value)
        case complex():
            sign = "" if str(value.imag).startswith("-") else "+"
            return f"({general(value.real)}{sign}{general(value.imag)}i)"
        case int():
            return str(value)
        case bytes():
            return "[" + " ".join(map(str, value)) + "]"
        case Record():
            return (
                "{" + " ".join((f"{k}:" if named else "") + _show(v, named) for k, v in value.shown()) + "}"
            )
        case dict():
            return "map[" + " ".join(f"{k}:{_show(v, named)}" for k, v in sorted(value.items())) + "]"
        case list():
            return "[" + " ".join(_show(item, named) for item in value) + "]"
        case None:
            return "<nil>"
    if value is NOTHING:
        return "<no value>" if top else "<nil>"
    return str(value)


def general(value: float, threshold: int = 6) -> str:
    """The shortest digits that read back the same; an exponent below 1e-4 and from 10**threshold on."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, point = decimal(value)
    if not digits:
        return sign + "0"
    exponent = point - 1
    if exponent < -4 or exponent >= threshold:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if point <= 0:
        return sign + "0." + "0" * -point + digits
    if point >= len(digits):
        return sign + digits + "0" * (point - len(digits))
    return sign + digits[:point] + "." + digits[point:]


def decimal(value: float) -> tuple[str, str, int]:
    """(sign, digits, point): value = 0.digits × 10**point."""
    text = repr(value)
    sign = "-" if text[0] == "-" else ""
    mantissa, _, power = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    whole = whole.lstrip("0")
    point = len(whole) + int(power or 0)
    digits = whole + fraction
    if not whole:
        stripped = digits.lstrip("0")
        point -= len(digits) - len(stripped)
        digits = stripped
    return sign, digits.rstrip("0"), point


def to_json(value: object, *, escape_html: bool = False) -> str:
    """encoding/json: structs in their order, maps sorted."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Verbatim():
            return value
        case str():
            return json_string(value, escape_html)
        case float():
            return _json_number(value)
        case int():
            return str(value)
        case NilList() | NilMap():
            return "null"
        case list():
            return "[" + ",".join([to_json(item, escape_html=escape_html) for item in value]) + "]"
        case dict():
            if isinstance(value, Record):
                pairs, escape_html = value.encoded(), escape_html or value.escapes_html
            else:
                pairs = sorted(value.items())
            inner = (f"{json_string(k, escape_html)}:{to_json(v, escape_html=escape_html)}" for k, v in pairs)
            return "{" + ",".join(inner) + "}"
    return "null"


def _json_number(value: float) -> str:
    text = general(value, 21)
    return text.replace("e-0", "e-") if "e-0" in text else text


def json_string(text: str, escape_html: bool = False) -> str:
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in _JSON_ESCAPES:
            out.append(_JSON_ESCAPES[char])
        elif char < " " or char in "\u2028\u2029" or (escape_html and char in "<>&"):
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    out.append('"')
    return "".join(out)


_JSON_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def go_syntax(value: object) -> str:
    """%#v of the kinds that scripts meet."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return quoted(value)
        case int() | float():
            return show(value)
        case dict():
            inner = ", ".join(f"{quoted(k)}:{go_syntax(v)}" for k, v in sorted(value.items()))
            return f"{type_name(value)}{{{inner}}}"
        case list():
            return f"{type_name(value)}{{{', '.join(map(go_syntax, value))}}}"
    return show(value)
