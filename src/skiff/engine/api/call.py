"""One API call as a handler sees it: the request, the version spoken, path and query, decoded.

No decision is taken here; what cannot be decoded is refused in Docker's words.
"""

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from skiff.docker import units, wire
from skiff.engine.api.versions import NEWEST, OLDEST, Version
from skiff.errors import InvalidParameter

T = TypeVar("T")

FALSE = ("", "0", "no", "false", "none")
"""Query values that mean no, in lower case; every other value means yes (Engine API, booleans)."""


class Call:
    """A request on its way to a handler. `path` holds the variable parts of the route, by name.

    since: the version that brought a parameter; to older clients there is none of that name.
    """

    __slots__ = ("path", "request", "version")

    def __init__(
        self, request: web.BaseRequest, version: Version = NEWEST, path: dict[str, str] | None = None
    ) -> None:
        self.request = request
        self.version = version
        self.path = path or {}

    def __getitem__(self, name: str) -> str:
        """A variable part of the path."""
        return self.path[name]

    def text(self, name: str, default: str = "", *, since: Version = OLDEST) -> str:
        """A query parameter as it came."""
        return self.request.query.get(name, default) if self.version >= since else default

    def filename(self, name: str) -> str:
        """A query parameter that names a file, of any bytes, as os.fsdecode has them."""
        query = parse_qsl(self.request.rel_url.raw_query_string, True, errors="surrogateescape")
        return next((value for key, value in query if key == name), "")

    def texts(self, name: str, *, since: Version = OLDEST) -> list[str]:
        """All values of a repeated query parameter."""
        return list(self.request.query.getall(name, [])) if self.version >= since else []

    def flag(self, name: str, default: bool = False, *, since: Version = OLDEST) -> bool:
        """A query parameter as a boolean."""
        value = self.request.query.get(name) if self.version >= since else None
        return default if value is None else value.strip().lower() not in FALSE

    def number(self, name: str, default: int | None = None) -> int | None:
        """A query parameter as an int; absent or empty gives the default."""
        value = self.request.query.get(name, "")
        if not value:
            return default
        try:
            return _decimal(value)
        except ValueError:
            raise InvalidParameter(f'strconv.Atoi: parsing "{value}": invalid syntax')

    def instant(self, name: str, now_ns: int) -> int | None:
        """A query parameter as nanoseconds since the epoch, None when it is absent. InvalidParameter."""
        value = self.text(name)
        try:
            return units.parse_time(value, now_ns) if value else None
        except InvalidParameter:
            raise InvalidParameter(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None

    def window(self) -> tuple[int, int]:
        """(rows, columns) of a resize. InvalidParameter."""
        return self._side("h", "height"), self._side("w", "width")

    def _side(self, name: str, what: str) -> int:
        value = self.text(name)
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise InvalidParameter(f'invalid resize {what} "{value}": invalid syntax')
        if digits != value or len(value) > 9 or int(value) > 65535:
            raise InvalidParameter(f'invalid resize {what} "{value}": value out of range')
        return int(value)

    async def body(self, kind: type[T], *, required: bool = True) -> T | None:
        """The JSON body as a value of `kind`; None when it is empty and not required."""
        try:
            raw = await self.request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise InvalidParameter("invalid JSON: the request body is too large") from error
        if not raw.strip():
            if required:
                raise InvalidParameter("invalid JSON: got EOF while reading request body")
            return None
        kind_of_body = self.request.content_type
        if kind_of_body != "application/json":
            raise InvalidParameter(
                f"unsupported Content-Type header ({kind_of_body}): must be 'application/json'"
            )
        return wire.decode(raw, kind)

    async def json(self, kind: type[T]) -> T:
        """The JSON body. One that is not there means an empty object, as in Docker."""
        value = await self.body(kind, required=False)
        return wire.decode(b"{}", kind) if value is None else value


def encode(value: Any) -> bytes:
    """A value as the JSON text of a reply. Names of files that are not UTF-8 are shown as far as they are."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_shown(msgspec.to_builtins(value)))


def _shown(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list() | tuple():
            return [_shown(one) for one in value]
        case dict():
            return {_shown(key): _shown(one) for key, one in value.items()}
        case _:
            return value


def _decimal(text: str) -> int:
    """Digits with a sign, and nothing that only Python takes for a number (`1_0`, ` 1`, `１`)."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise ValueError(text)
    return int(text)


_encoder = msgspec.json.Encoder()
