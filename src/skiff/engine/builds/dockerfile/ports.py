"""EXPOSE's ports and STOPSIGNAL's names. Pure; raises Fault.

port := [[address ":"] [host] ":"] range ["/" protocol]      range := number ["-" number]
"""

import re
import signal
from collections.abc import Iterable

from skiff.engine.builds.dockerfile.errors import Fault

_PROTOCOLS = ("tcp", "udp", "sctp")
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_LARGEST = 65535
_FIRST_REALTIME, _LAST_REALTIME = 34, 64


def exposed(texts: Iterable[str]) -> list[str]:
    """`80/tcp` for each port that the texts name, each once, in the order of the texts. Fault."""
    found: dict[str, None] = {}
    for text in texts:
        ports, _, protocol = text.partition("/")
        protocol = protocol.lower() or "tcp"
        if protocol not in _PROTOCOLS:
            raise Fault(f"Invalid proto: {protocol}", near=text)
        inner = ports.rpartition(":")[2]
        first, last = _range(inner, text)
        outer = ports.removesuffix(inner).removesuffix(":").rpartition(":")[2]
        if outer:
            _range(outer, text, kind="hostPort")
        found |= dict.fromkeys(f"{port}/{protocol}" for port in range(first, last + 1))
    return list(found)


def _range(text: str, near: str, kind: str = "containerPort") -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise Fault(f"Invalid {kind}: {text}" if text else "No port specified: " + near, near=near)
    first, last = int(match[1]), int(match[2] or match[1])
    if max(first, last) > _LARGEST or last < first:
        raise Fault(f"Invalid {kind}: {text}", near=near)
    return first, last


def check_signal(text: str) -> None:
    """Whether text names a signal: `SIGTERM`, `term`, `15`, `RTMIN+3`. Fault."""
    if re.fullmatch(r"\d{1,3}", text):
        if 0 < int(text) <= _LAST_REALTIME:
            return
        raise Fault(f"invalid signal: {text}", near=text)
    name = text.upper().removeprefix("SIG")
    realtime = re.fullmatch(r"RTM(IN|AX)(?:([+-])(\d{1,2}))?", name)
    if realtime:
        base = _FIRST_REALTIME if realtime[1] == "IN" else _LAST_REALTIME
        offset = int(realtime[3] or 0) * (-1 if realtime[2] == "-" else 1)
        if _FIRST_REALTIME <= base + offset <= _LAST_REALTIME:
            return
    elif f"SIG{name}" in signal.Signals.__members__:
        return
    raise Fault(f"invalid signal: {text}", near=text)
