"""`--change`: Dockerfile instructions applied to an image's run config, for import and commit. Pure.

change := ("CMD" | "ENTRYPOINT") (json-array | shell-line) | "ENV" pairs | "LABEL" pairs
        | "EXPOSE" port+ | "VOLUME" (json-array | path+) | "USER" name | "WORKDIR" path
        | "STOPSIGNAL" name | "ONBUILD" instruction
        | "HEALTHCHECK" ("NONE" | option* "CMD" (json-array | shell-line))
option := "--" ("interval" | "timeout" | "start-period" | "start-interval") "=" span | "--retries=" number
"""

import shlex
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from skiff.docker.signals import signal_number
from skiff.docker.units import parse_span
from skiff.errors import InvalidParameter
from skiff.oci.image import Healthcheck, RunConfig

WORDS = (
    *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
_COMMANDS = ("CMD", "ENTRYPOINT")
_SINGLE = ("STOPSIGNAL", "USER", "WORKDIR")
_PROTOCOLS = ("tcp", "udp", "sctp")
_SPANS = ("interval", "timeout", "start-period", "start-interval")
_SHELL = ("/bin/sh", "-c")


def apply(run: RunConfig, changes: Iterable[str]) -> RunConfig:
    """The run config after all changes, in order. InvalidParameter.

    An entrypoint takes the image's command away, not one that the changes gave before it.
    """
    has_command = False
    for change in changes:
        before, run = run, _one(run, change)
        if run.entrypoint != before.entrypoint and has_command:
            run = replace(run, cmd=before.cmd)
        has_command = has_command or change.strip().upper().startswith("CMD")
    return run


def _one(run: RunConfig, change: str) -> RunConfig:
    word, _, rest = change.strip().partition(" ")
    rest = rest.strip()
    if word.upper() not in WORDS:
        raise InvalidParameter(f"{word.upper()} is not a valid change command")
    if not rest and word.upper() not in _COMMANDS:
        how_many = "exactly" if word.upper() in _SINGLE else "at least"
        raise InvalidParameter(f"{word.upper()} requires {how_many} one argument")
    match word.upper():
        case "CMD":
            return replace(run, cmd=_command(rest))
        case "ENTRYPOINT":
            # without a value it is no change at all
            return replace(run, entrypoint=_command(rest), cmd=None) if rest else run
        case "ENV":
            env = dict(one.partition("=")[::2] for one in run.env or ())
            return replace(run, env=tuple(f"{k}={v}" for k, v in (env | _pairs("ENV", rest)).items()))
        case "LABEL":
            return replace(run, labels=(run.labels or {}) | _pairs("LABEL", rest))
        case "EXPOSE":
            ports: dict[str, dict[str, Any]] = {port: {} for word in rest.split() for port in _ports(word)}
            return replace(run, exposed_ports=(run.exposed_ports or {}) | ports)
        case "VOLUME":
            return replace(run, volumes=(run.volumes or {}) | {path: {} for path in _volumes(rest)})
        case "USER":
            return replace(run, user=rest)
        case "WORKDIR":
            here = rest if rest.startswith("/") else f"{run.working_dir.rstrip('/')}/{rest}"
            return replace(run, working_dir=here)
        case "STOPSIGNAL":
            signal_number(rest)
            return replace(run, stop_signal=rest)
        case "HEALTHCHECK":
            return replace(run, healthcheck=_healthcheck(rest, change))
        case _:
            return replace(run, on_build=(*(run.on_build or ()), _trigger(rest)))


def _healthcheck(text: str, change: str) -> Healthcheck:
    options: dict[str, int] = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        text = text.lstrip()
        name, equals, value = option[2:].partition("=")
        if not equals or name not in (*_SPANS, "retries"):
            raise InvalidParameter(f"invalid change {change!r}: unknown flag: {name}")
        options[name.replace("-", "_")] = _count(value) if name == "retries" else parse_span(value)
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE":
        if command.strip():
            raise InvalidParameter("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(test=("NONE",))
    if kind.upper() != "CMD":
        raise InvalidParameter(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if not command.strip():
        raise InvalidParameter("Missing command after HEALTHCHECK CMD")
    words = _array(command.strip())
    test = ("CMD", *words) if words else ("CMD-SHELL", command.strip())
    return Healthcheck(test=test, **options)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"invalid number of retries {text!r}")
    return int(text)


def _command(text: str) -> tuple[str, ...]:
    return _array(text) or ((*_SHELL, text) if text else _SHELL)


def _ports(text: str) -> list[str]:
    """`80`, `53/udp`, `8000-8010`: each port with its protocol."""
    numbers, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in _PROTOCOLS:
        raise InvalidParameter(f"Invalid proto: {protocol}")
    first, dash, last = numbers.partition("-")
    ends = (first, last) if dash else (first, first)
    if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
        raise InvalidParameter(f"Invalid containerPort: {numbers}")
    low, high = map(int, ends)
    if not low <= high <= 65535:
        raise InvalidParameter(f"Invalid containerPort: {numbers}")
    return [f"{port}/{protocol.lower() or 'tcp'}" for port in range(low, high + 1)]


def _volumes(text: str) -> tuple[str, ...]:
    array = _array(text)
    paths = tuple(text.split()) if array is None else array
    if not paths:
        raise InvalidParameter("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    return paths


def _trigger(text: str) -> str:
    """What ONBUILD keeps for later, when it may."""
    word = text.partition(" ")[0].upper()
    if word == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("FROM", "MAINTAINER"):
        raise InvalidParameter(f"{word} isn't allowed as an ONBUILD trigger")
    return text


def _array(text: str) -> tuple[str, ...] | None:
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError:
        return None  # as in a Dockerfile: not JSON, so a shell line that begins with a bracket


def _pairs(instruction: str, text: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid change '{instruction} {text}': {error}") from error
    if words and "=" not in words[0]:  # the old form: NAME the rest of the line
        name, _, value = text.partition(" ")
        if not value:
            raise InvalidParameter(f"{instruction} must have two arguments")
        return {name: value.strip()}
    for word in words:
        if not word.partition("=")[1]:
            raise InvalidParameter(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
            )
        if word.startswith("="):
            raise InvalidParameter(f"{instruction} names can not be blank")
    return dict(word.partition("=")[::2] for word in words)
