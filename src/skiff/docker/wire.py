"""How the Engine API's JSON becomes values, and values JSON. Pure.

Clients are old, many and careless: null where a string is meant, numbers as strings, one string where a list
is meant, keys in the wrong case, fields nobody knows. `decode` takes all of that as Docker does; what remains
undecodable is InvalidParameter. Fields that Docker omits when empty are UNSET here, and UNSET is false.
"""

import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from skiff.errors import InvalidParameter

T = TypeVar("T")
Repair = Callable[[Any], Any]


class Wire(Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of every value that Docker's API spells: PascalCase on the wire, unknown fields ignored."""


def decode(data: bytes | bytearray | str, of: type[T]) -> T:
    """The value that a client sent; InvalidParameter with a sentence otherwise. An empty body is `{}`."""
    try:
        raw = msgspec.json.decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None
    return convert(raw, of)


def convert(raw: Any, of: type[T]) -> T:
    """decode, of JSON that is parsed already."""
    try:
        repaired = _repair(cast(Any, of))(raw)
        try:
            return msgspec.convert(repaired, of)
        except msgspec.ValidationError:
            return msgspec.convert(repaired, of, strict=False)  # numbers as strings, 0 and 1 for booleans
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None


@cache
def _repair(of: Any) -> Repair:
    """A function that brings raw JSON nearer to the type, leaving what it does not understand."""
    if isinstance(of, type) and issubclass(of, Struct):
        return _struct_repair(of)
    origin, arguments = typing.get_origin(of), typing.get_args(of)
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in arguments if a not in (type(None), msgspec.UnsetType)]
        return _repair(inner[0]) if len(inner) == 1 else _as_is
    if origin is tuple and arguments[-1] is Ellipsis:
        return _list_repair(arguments[0])
    if origin is dict:
        return _map_repair(arguments[1])
    return _as_is


def _as_is(raw: Any) -> Any:
    return raw


def _struct_repair(of: type[Struct]) -> Repair:
    hints = typing.get_type_hints(of)
    plan: dict[str, tuple[str, bool, Repair | None]] = {}
    for attribute, wire_name in zip(of.__struct_fields__, of.__struct_encode_fields__, strict=True):
        hint = hints[attribute]
        nullable = hint is Any or type(None) in typing.get_args(hint)
        repair = _repair(hint)
        entry = (wire_name, nullable, None if repair is _as_is else repair)
        plan.setdefault(wire_name.lower(), entry)
        plan[wire_name] = entry

    def mend(raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        mended: dict[str, Any] = {}
        for key, value in raw.items():
            entry = plan.get(key) or plan.get(key.lower())
            if entry is None:
                continue
            name, nullable, deeper = entry
            if value is None:
                if nullable:
                    mended[name] = None
            else:
                mended[name] = deeper(value) if deeper else value
        return mended

    return mend


def _list_repair(of: Any) -> Repair:
    deeper = _repair(of)

    def mend(raw: Any) -> Any:
        if isinstance(raw, str):
            return [raw]
        if isinstance(raw, list) and deeper is not _as_is:
            return [deeper(item) for item in raw]
        return raw

    return mend


def _map_repair(of: Any) -> Repair:
    deeper = _repair(of)
    nullable = of is Any or type(None) in typing.get_args(of)

    def mend(raw: Any) -> Any:
        if isinstance(raw, dict):
            if of is str:
                return {key: _text(value) for key, value in raw.items()}
            return {key: deeper(value) for key, value in raw.items() if nullable or value is not None}
        return raw

    return mend


def _text(value: Any) -> Any:
    """A map of strings holds numbers and booleans from clients that write YAML."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
