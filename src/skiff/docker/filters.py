"""`filters={"label":["a=b"]}`: parse and match. Pure.

filters := JSON object of name → values
values := `["v", …]`, or before API 1.22 `{"v": true, …}`, where Docker asks for v whatever stands beside it
"""

import re
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from skiff.errors import InvalidParameter


class Filters(Struct, frozen=True):
    """Names to the values asked for. Several values of a name: any of them, except labels: all of them."""

    fields: dict[str, tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self.fields)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a name; empty when it was not asked for."""
        return self.fields.get(name, ())

    def boolean(self, name: str, default: bool | None = None) -> bool | None:
        """The truth a filter such as dangling=true asks for; default when absent; InvalidParameter."""
        values = {_truth(name, value) for value in self.values(name)}
        if not values:
            return default
        if len(values) > 1:
            raise InvalidParameter(f"invalid filter '{name}={list(self.values(name))}'")
        return values.pop()

    def exact(self, name: str, actual: str) -> bool:
        """True if name was not asked for, or actual is one of its values."""
        values = self.fields.get(name)
        return values is None or actual in values

    def matches(self, name: str, actual: str) -> bool:
        """As `exact`, but a value may also be a prefix-free regular expression found within actual."""
        values = self.fields.get(name)
        return values is None or any(_found(value, actual) for value in values)

    def starts(self, name: str, actual: str) -> bool:
        """True if name was not asked for, or actual begins with one of its values (ids)."""
        values = self.fields.get(name)
        return values is None or any(actual.startswith(value) for value in values)

    def labels(self, labels: Mapping[str, str] | None) -> bool:
        """label=key and label=key=value: all must hold; label!=…: none may."""
        have = labels or {}
        return all(_labelled(value, have) for value in self.values("label")) and not any(
            _labelled(value, have) for value in self.values("label!")
        )


def parse(text: str | None, accepted: Iterable[str]) -> Filters:
    """The filters of a query string; InvalidParameter for malformed ones and for names not in accepted."""
    if not text:
        return Filters()
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidParameter("invalid filter") from error
    if raw is None:
        return Filters()
    if not isinstance(raw, dict):
        raise InvalidParameter("invalid filter")
    known = set(accepted)
    fields: dict[str, tuple[str, ...]] = {}
    for name, values in raw.items():
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'" if name else "invalid filter")
        fields[name] = _values(name, values)
    return Filters({name: values for name, values in fields.items() if values})


def _values(name: str, raw: object) -> tuple[str, ...]:
    if isinstance(raw, dict):
        return tuple(str(value) for value in raw)
    if isinstance(raw, list):
        return tuple("true" if v is True else "false" if v is False else str(v) for v in raw)
    if isinstance(raw, str):  # docker-py's low-level callers
        return (raw,)
    raise InvalidParameter(f"invalid filter '{name}': expected a list of values")


def _truth(name: str, value: str) -> bool:
    match value.lower():
        case "1" | "t" | "true":
            return True
        case "0" | "f" | "false":
            return False
        case _:
            raise InvalidParameter(f"invalid filter '{name}=[{value}]'")


def _found(value: str, actual: str) -> bool:
    if value == actual:
        return True
    try:
        return re.search(value, actual) is not None
    except re.error:
        return value in actual


def _labelled(wanted: str, have: Mapping[str, str]) -> bool:
    key, equals, value = wanted.partition("=")
    return key in have and (not equals or have[key] == value)
