"""Progress of pull, load and import: the events clients draw bars from, and their NDJSON. Pure.

Engine API, ImageCreate: one JSON object a line. Clients that draw read id, status and progressDetail;
those that do not print status and the ready-made `progress` text.
"""

import msgspec
from msgspec import Struct

BAR = 50  # characters between the brackets
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class ProgressDetail(Struct, frozen=True, omit_defaults=True):
    """In bytes. total 0: unknown."""

    current: int = 0
    total: int = 0


class ErrorDetail(Struct, frozen=True, omit_defaults=True):
    message: str
    code: int = 0


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One event. stream: plain text for the terminal (load). aux: a value for programs."""

    stream: str | None = None
    status: str | None = None
    progress_detail: ProgressDetail | None = None
    progress: str | None = None
    id: str | None = None
    error_detail: ErrorDetail | None = None
    error: str | None = None
    aux: dict[str, str | int] | None = None


def line(event: Progress) -> bytes:
    """The event as it goes on the wire, with the CR LF that Docker ends it with."""
    return msgspec.json.encode(event) + b"\r\n"


def message(status: str, id: str | None = None) -> Progress:
    """A line without a bar."""
    return Progress(status=status, id=id)


def layer(status: str, id: str) -> Progress:
    """A step of one layer that has no measure: `Pulling fs layer`, `Pull complete`."""
    return Progress(status=status, id=id, progress_detail=ProgressDetail())


def moving(status: str, id: str, current: int, total: int) -> Progress:
    """A step under way: `Downloading`, `Extracting`."""
    return Progress(
        status=status,
        id=id,
        progress_detail=ProgressDetail(current, total if current <= total else 0),
        progress=bar(current, total),
    )


def failure(text: str, code: int = 0) -> Progress:
    """The event that ends a stream which has begun already."""
    return Progress(error_detail=ErrorDetail(text, code), error=text)


def bar(current: int, total: int) -> str:
    """`[=========>          ]  1.2MB/4.5MB`, or the amount alone when the total is unknown."""
    if not total or current > total:
        return f"{amount(current):>8}"
    percent = min(BAR, int(current / total * 100) // 2)
    body = "=" * percent + ">" + " " * (BAR - percent) if percent < BAR else "=" * BAR + ">"
    return f"[{body}] {amount(current):>8}/{amount(total)}"


def amount(size: int) -> str:
    """`1.234MB`: decimal units, four significant digits."""
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.4g}{_UNITS[unit]}"
