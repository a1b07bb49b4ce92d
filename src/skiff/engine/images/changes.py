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

from skiff.docker.units import parse_span
from skiff.errors import InvalidParameter
from skiff.oci.image import Healthcheck, RunConfig

WORDS = (
    *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
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
    if not rest:
        raise InvalidParameter(f"invalid change {change!r}: expected an instruction and its value")
    match word.upper():
        case "CMD":
            return replace(run, cmd=_command(rest))
        case "ENTRYPOINT":
            return replace(run, entrypoint=_command(rest), cmd=None)
        case "ENV":
            env = dict(one.partition("=")[::2] for one in run.env or ())
            return replace(run, env=tuple(f"{k}={v}" for k, v in (env | _pairs(rest, change)).items()))
        case "LABEL":
            return replace(run, labels=(run.labels or {}) | _pairs(rest, change))
        case "EXPOSE":
            ports: dict[str, dict[str, Any]] = {
                port if "/" in port else f"{port}/tcp": {} for port in rest.split()
            }
            return replace(run, exposed_ports=(run.exposed_ports or {}) | ports)
        case "VOLUME":
            return replace(run, volumes=(run.volumes or {}) | {path: {} for path in _list(rest)})
        case "USER":
            return replace(run, user=rest)
        case "WORKDIR":
            here = rest if rest.startswith("/") else f"{run.working_dir.rstrip('/')}/{rest}"
            return replace(run, working_dir=here)
        case "STOPSIGNAL":
            return replace(run, stop_signal=rest)
        case "HEALTHCHECK":
            return replace(run, healthcheck=_healthcheck(rest, change))
        case _:
            return replace(run, on_build=(*(run.on_build or ()), rest))


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
        return Healthcheck(test=("NONE",))
    if kind.upper() != "CMD" or not command.strip():
        raise InvalidParameter(f"invalid change {change!r}: expected NONE or CMD and a command")
    words = _array(command.strip())
    test = ("CMD", *words) if words else ("CMD-SHELL", command.strip())
    return Healthcheck(test=test, **options)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidParameter(f"invalid number of retries {text!r}")
    return int(text)


def _command(text: str) -> tuple[str, ...]:
    return _array(text) or (*_SHELL, text)


def _list(text: str) -> tuple[str, ...]:
    return _array(text) or tuple(text.split())


def _array(text: str) -> tuple[str, ...] | None:
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.DecodeError:
        return None  # as in a Dockerfile: not JSON, so a shell line that begins with a bracket


def _pairs(text: str, change: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid change {change!r}: {error}") from error
    if words and "=" not in words[0]:  # the old form: NAME the rest of the line
        name, _, value = text.partition(" ")
        if not value:
            raise InvalidParameter(f"invalid change {change!r}: {name} must have two arguments")
        return {name: value.strip()}
    pairs = [word.partition("=") for word in words]
    if not all(name and equals for name, equals, _ in pairs):
        raise InvalidParameter(f"invalid change {change!r}: expected NAME=value")
    return {name: value for name, _, value in pairs}
