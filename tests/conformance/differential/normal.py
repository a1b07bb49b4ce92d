"""What differs between two runs and means nothing (ids, instants, sizes, addresses) made equal. Pure."""

import re
from typing import Any, Final

NEVER: Final = "0001-01-01T00:00:00Z"
SPAN: Final = (
    r"(?:Less than a second|About an? (?:minute|hour)|\d+ (?:second|minute|hour|day|week|month|year)s?)"
)
RULES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\nSkiff (?:Usage|Options|Commands):\n(?:  .*\n)+", ""),  # what Docker has not
        (r"\b[0-9a-f]{64}\b", "ID64"),
        (r"\b(?=[a-f]*[0-9])[0-9a-f]{12}\b", "ID12"),
        (rf"(?!{NEVER})\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "TIME"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \+0000 UTC", "TIME"),
        (rf"{SPAN}( ago)?", "SPAN"),
        (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
        (r"\b172\.(?:1[6-9]|2\d|3[01])\.\d+\.\d+", "IP"),
        (r"\b192\.168\.\d+\.\d+", "IP"),
        (r"\b\d+(?:\.\d+)?(?:B|kB|MB|GB|KiB|MiB|GiB)(?![A-Za-z])", "SIZE"),
        (r"unix:///[^ \"]+", "unix://SOCKET"),
        (r"/[^ ]*/volumes/([^ /]+)/_data", r"VOLUMES/\1"),
        (r"/[^ \"]*/\.docker(?=[/\"])", "HOME/.docker"),
        (r"[Ss]kiff(?=[ ':])", "docker"),
        (r"[ \t]{2,}", "  "),
        (r"[ \t]+\n", "\n"),
    )
)
# Numbers that say how big, when, or which process.
NUMBERS: Final = frozenset(
    (
        "Created", "LayersSize", "Pid", "SharedSize", "Size", "SizeRootFs", "SizeRw", "SpaceReclaimed",
        "VirtualSize", "current", "time", "timeNano", "total",
    )
)  # fmt: skip
# What depends on this machine and this engine.
PLACES: Final = frozenset(
    (
        "CgroupnsMode", "Hostname", "HostnamePath", "HostsPath", "LastTagTime", "LogPath", "Mountpoint",
        "ResolvConfPath", "Runtime", "SandboxID", "SandboxKey", "com.docker.network.bridge.name",
    )
)  # fmt: skip


def text(value: str) -> str:
    for pattern, replacement in RULES:
        value = pattern.sub(replacement, value)
    return value


def document(value: Any, key: str = "") -> Any:
    """A JSON value with its names and strings made equal; what a place or a number says is left out."""
    if key in PLACES and value:
        return "PLACE"
    match value:
        case dict():
            if key == "GraphDriver":
                return {"Name": value["Name"]}
            return {text(name): document(inner, name) for name, inner in sorted(value.items())}
        case list() if key == "Mounts":  # in no order
            return sorted((document(inner) for inner in value), key=str)
        case list() if any(isinstance(inner, dict) and {"Name", "Driver"} <= inner.keys() for inner in value):
            return sorted((document(inner) for inner in value), key=lambda inner: str(inner["Name"]))
        case list():
            return [document(inner, key) for inner in value]
        case str():
            return text(value)
        case int() if key in NUMBERS and not isinstance(value, bool) and value > 0:
            return "NUMBER"
        case _:
            return value


def shape(value: Any) -> Any:
    """The names and types alone; of a list, its first item's."""
    match value:
        case dict():
            return {name: shape(inner) for name, inner in sorted(value.items())}
        case list():
            return [shape(value[0])] if value else []
        case _:
            return type(value).__name__
