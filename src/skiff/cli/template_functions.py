"""The functions a template may call: Go's built-ins and docker's eight.

Pure. `kinds` are the Go types of the parameters; the executor checks them before it calls.
"""

from skiff.cli.template_printf import sprintf
from skiff.cli.template_values import NOTHING, Map, Record, is_true, show, to_json, type_name
from skiff.docker.quoting import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class CallError(Exception):
    """A function could not do it: the executor says `error calling NAME: …`."""


class Function:
    """kinds: one per parameter, of string, int, []string, any; a variadic function's last kind repeats."""

    __slots__ = ("act", "is_variadic", "kinds")

    def __init__(self, act: "Callable[..., object]", *kinds: str, is_variadic: bool = False) -> None:
        self.act = act
        self.kinds = kinds
        self.is_variadic = is_variadic

    def kind(self, index: int) -> str:
        return self.kinds[min(index, len(self.kinds) - 1)]


def _length(value: object) -> int:
    if value is NOTHING or value is None:
        raise CallError("reflect: call of reflect.Value.Type on zero Value")
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, dict)) and not isinstance(value, Record):
        return len(value)
    raise CallError(f"len of type {type_name(value)}")


def _index(value: object, *keys: object) -> object:
    if value is NOTHING or value is None:
        raise CallError("index of untyped nil")
    for key in keys:
        if isinstance(value, dict) and not isinstance(value, Record):
            if key is NOTHING or key is None:
                raise CallError("value is nil; should be string")
            if not isinstance(key, str):
                raise CallError(f"value has type {type_name(key)}; should be string")
            value = value[key] if key in value else value.zero if isinstance(value, Map) else NOTHING
        elif isinstance(value, (list, str)):
            items = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            at = _position(key, len(items))
            if at == len(items):
                kind = "string" if isinstance(value, str) else "slice"
                raise CallError(f"reflect: {kind} index out of range")
            value = items[at]
        elif value is NOTHING or value is None:
            raise CallError("index of nil pointer")
        else:
            raise CallError(f"can't index item of type {type_name(value)}")
    return value


def _position(key: object, highest: int) -> int:
    if key is NOTHING or key is None:
        raise CallError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise CallError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= highest:
        raise CallError(f"index out of range: {key}")
    return key


def _slice(value: object, *bounds: object) -> object:
    if value is NOTHING or value is None:
        raise CallError("slice of untyped nil")
    if len(bounds) > 3:
        raise CallError(f"too many slice indexes: {len(bounds)}")
    if isinstance(value, str):
        if len(bounds) == 3:
            raise CallError("cannot 3-index slice a string")
        items: bytes | list[object] = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, list):
        items = value
    else:
        raise CallError(f"can't slice item of type {type_name(value)}")
    places = [_position(bound, len(items)) for bound in bounds]
    first = places[0] if places else 0
    last = places[1] if len(places) > 1 else len(items)
    if first > last:
        raise CallError(f"invalid slice index: {first} > {last}")
    if len(places) == 3 and last > places[2]:
        raise CallError(f"invalid slice index: {last} > {places[2]}")
    cut = items[first:last]
    return cut.decode("utf-8", "surrogateescape") if isinstance(cut, bytes) else cut


def _inner(value: object) -> str:
    """As fmt.Print shows one operand: a missing one is <nil>."""
    return "<nil>" if value is NOTHING else show(value)


def _print(*values: object) -> str:
    """A space stands between two operands when neither is a string."""
    out = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            out.append(" ")
        out.append(_inner(value))
    return "".join(out)


def _println(*values: object) -> str:
    return " ".join(map(_inner, values)) + "\n"


def _joined(values: tuple[object, ...]) -> str:
    """As Go prints what html, js and urlquery are given: all that is missing alike."""
    return _print(*("<no value>" if value is None or value is NOTHING else value for value in values))


def _html(*values: object) -> str:
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;", "\0": "\ufffd"}
    return "".join(marks.get(char, char) for char in _joined(values))


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def _js(*values: object) -> str:
    return "".join(
        _JS[char]
        if char in _JS
        else f"\\u{ord(char):04X}"
        if char < " " or not (char.isprintable())
        else char
        for char in _joined(values)
    )


_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")


def _urlquery(*values: object) -> str:
    data = _joined(values).encode("utf-8", "surrogateescape")
    return "".join(chr(b) if b in _UNRESERVED else "+" if b == 0x20 else f"%{b:02X}" for b in data)


def _printf(pattern: str, *values: object) -> str:
    return sprintf(pattern, list(values))


# comparisons: values of one basic kind


def _basic(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else ""


def _incompatible(first: object, second: object) -> CallError:
    return CallError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")


def _equals(first: object, second: object) -> bool:
    left, right = _basic(first), _basic(second)
    absent = (None, NOTHING)
    if first in absent or second in absent:
        return first in absent and second in absent
    if left != right:
        raise _incompatible(first, second)
    if not left:
        raise CallError(f"non-comparable type {show(first)}: {type_name(first)}")
    return first == second


def _eq(first: object, *others: object) -> bool:
    if isinstance(first, (list, dict)):
        raise CallError(f"non-comparable type {show(first)}: {type_name(first)}")
    if not others:
        raise CallError("missing argument for comparison")
    return any(_equals(first, other) for other in others)


def _ne(first: object, second: object) -> bool:
    return not _equals(first, second)


def _less(first: object, second: object) -> bool:
    left, right = _basic(first), _basic(second)
    if not left or not right:
        raise CallError("invalid type for comparison")
    if left != right:
        raise _incompatible(first, second)
    if left == "bool":
        raise CallError("invalid type for comparison")
    return first < second  # type: ignore[operator, no-any-return]


# docker's own


def _title(text: str) -> str:
    """The first letter of each word in upper case; the others stay."""
    out = []
    begins = True
    for char in text:
        out.append(char.upper() if begins else char)
        begins = not (char.isalnum() or char in "_'")
    return "".join(out)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else ""


def _truncate(text: str, length: int) -> str:
    if length < 0:
        raise CallError(f"runtime error: slice bounds out of range [:{length}]")
    data = text.encode("utf-8", "surrogateescape")
    return data[:length].decode("utf-8", "surrogateescape") if len(data) > length else text


def _json(value: object) -> str:
    return to_json(None if value is NOTHING else value)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(parts: list[str], separator: str) -> str:
    return separator.join(parts)


ALL: dict[str, Function] = {
    "and": Function(lambda first, *rest: first, "any", "any", is_variadic=True),
    "or": Function(lambda first, *rest: first, "any", "any", is_variadic=True),
    "not": Function(lambda value: not is_true(value), "any"),
    "len": Function(_length, "any"),
    "index": Function(_index, "any", "any", is_variadic=True),
    "slice": Function(_slice, "any", "any", is_variadic=True),
    "print": Function(_print, "any", is_variadic=True),
    "printf": Function(_printf, "string", "any", is_variadic=True),
    "println": Function(_println, "any", is_variadic=True),
    "html": Function(_html, "any", is_variadic=True),
    "js": Function(_js, "any", is_variadic=True),
    "urlquery": Function(_urlquery, "any", is_variadic=True),
    "call": Function(quoted, "any", "any", is_variadic=True),
    "eq": Function(_eq, "any", "any", is_variadic=True),
    "ne": Function(_ne, "any", "any"),
    "lt": Function(_less, "any", "any"),
    "le": Function(lambda a, b: _less(a, b) or _equals(a, b), "any", "any"),
    "gt": Function(lambda a, b: not (_less(a, b) or _equals(a, b)), "any", "any"),
    "ge": Function(lambda a, b: not _less(a, b), "any", "any"),
    "json": Function(_json, "any"),
    "split": Function(_split, "string", "string"),
    "join": Function(_join, "[]string", "string"),
    "title": Function(_title, "string"),
    "lower": Function(lambda text: text.lower(), "string"),
    "upper": Function(lambda text: text.upper(), "string"),
    "pad": Function(_pad, "string", "int", "int"),
    "truncate": Function(_truncate, "string", "int"),
}
