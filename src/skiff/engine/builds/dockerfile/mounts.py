"""RUN --mount=…: one mount's options, read and checked. Pure; raises Fault.

mount  := [ "type=" kind "," ] option { "," option }        kind: bind (when unsaid) cache tmpfs secret ssh
option := key [ "=" value ]                                 a key without value is a boolean, true
"""

import csv
import re
from posixpath import basename, join, normpath
from typing import Any

from msgspec import Struct

from skiff.docker.units import parse_size
from skiff.engine.builds.dockerfile.errors import Fault, suggestion
from skiff.engine.builds.dockerfile.expansion import Expansion
from skiff.engine.builds.plan import ExecMount, MountKind
from skiff.errors import InvalidParameter

_SYNONYMS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS = {
    "bind": {"target", "source", "from", "readonly", "readwrite"},
    "cache": {"target", "source", "from", "readonly", "readwrite", "id", "sharing", "mode", "uid", "gid"},
    "tmpfs": {"target", "size", "readwrite", "readonly"},
    "secret": {"target", "source", "id", "required", "mode", "uid", "gid", "env", "readonly"},
    "ssh": {"target", "source", "id", "required", "mode", "uid", "gid", "readonly"},
}
_ANY = {"bind": {"id"}}  # taken and without effect, as Docker has it
_EVERY_KEY = sorted({"type", *_SYNONYMS}.union(*_KEYS.values()))
_BOOLEANS = ("readonly", "readwrite", "required")
_TRUE = ("true", "1", "t")
_FALSE = ("false", "0", "f")
_AGENT = "/run/buildkit/ssh_agent.0"
_SECRETS = "/run/secrets/"


class MountFlag(Struct, frozen=True):
    """A mount whose origin is still a name: of a stage, an image or a context; "" the build context."""

    mount: ExecMount
    origin: str


def mount_flag(text: str, expansion: Expansion, workdir: str) -> MountFlag:
    """What one --mount asks for. A target without leading slash begins at workdir. Fault."""
    options = _options(text, expansion)
    kind = _kind(options.pop("type", "bind"))
    for key, value in options.items():
        if key not in _KEYS[kind] and key not in _ANY.get(kind, ()):
            raise Fault(_refusal(kind, key), near=f"{key}={value}")
    origin = options.get("from", "")
    target = options.get("target", "")
    if kind in ("secret", "ssh") and "source" in options:
        options.setdefault("id", options["source"])
    fields: dict[str, Any] = {
        "kind": kind,
        "target": normpath(join("/", workdir, target)) if target else "",
        "required": options.get("required") == "true",
        "mode": _octal(options, "mode"),
        "uid": _number(options, "uid"),
        "gid": _number(options, "gid"),
    }
    match kind:
        case "bind":
            fields |= _bind(options)
        case "cache":
            fields |= _cache(options, fields["target"])
        case "tmpfs":
            fields |= {"size_bytes": _size(options), "read_only": _read_only(options, default=False)}
        case "secret":
            fields |= _secret(options, fields["target"])
        case "ssh":
            fields |= {"id": options.get("id") or "default", "target": fields["target"] or _AGENT}
    mount = ExecMount(**fields)
    if kind in ("bind", "cache", "tmpfs") and mount.target in ("", "/"):
        raise Fault('invalid mount target "/"', near=text)
    return MountFlag(mount, origin)


def origin_of(text: str) -> str | None:
    """The `from` of a mount, before anything else is known; "": the build context, None: nothing."""
    try:
        options = _options(text, Expansion({}))
    except Fault:
        return None
    kind = options.get("type", "bind").lower()
    return options.get("from", "" if kind == "bind" else None)


def _options(text: str, expansion: Expansion) -> dict[str, str]:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error:
        raise Fault("failed to parse csv mounts", near=text) from None
    options: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        key = _SYNONYMS.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in _BOOLEANS:
            raise Fault(f"invalid field '{field}' must be a key=value pair", near=field)
        if key not in _EVERY_KEY:
            raise Fault(f"unexpected key '{key}' in '{field}'{suggestion(key, _EVERY_KEY)}", near=field)
        value = expansion.word(value) if equals else "true"
        if key in _BOOLEANS:
            if value.lower() not in (*_TRUE, *_FALSE):
                raise Fault(f"invalid value for {key}: {value}", near=field)
            value = "true" if value.lower() in _TRUE else "false"
        options[key] = value
    return options


def _refusal(kind: str, key: str) -> str:
    """Why a mount of this kind has no such option, as Docker says it."""
    match kind, key:
        case "secret", "from":
            return "secret mount should not have a from"
        case "secret", "sharing":
            return "secret mount should not define sharing"
        case _, "sharing":
            return f"invalid cache sharing set for {kind} mount"
        case _, "mode" | "uid" | "gid":
            return f'{key} not allowed for "{kind}" type mounts'
        case _:
            return f"unexpected key '{key}' for mount type '{kind}'"


def _kind(text: str) -> MountKind:
    for kind in ("bind", "cache", "tmpfs", "secret", "ssh"):
        if text.lower() == kind:
            return kind
    raise Fault(f'unsupported mount type "{text}"{suggestion(text, _KEYS)}', near=text)


def _read_only(options: dict[str, str], default: bool) -> bool:
    if "readwrite" in options:
        return options["readwrite"] == "false"
    return options["readonly"] == "true" if "readonly" in options else default


def _bind(options: dict[str, str]) -> dict[str, Any]:
    return {
        "source": normpath(join("/", options.get("source", ""))),
        "read_only": _read_only(options, default=True),
    }


def _cache(options: dict[str, str], target: str) -> dict[str, Any]:
    sharing = options.get("sharing", "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        hint = suggestion(sharing, ("shared", "private", "locked"))
        raise Fault(f'unsupported sharing value "{options["sharing"]}"{hint}', near=options["sharing"])
    return {
        "id": options.get("id") or target,
        "sharing": sharing,
        "source": normpath(join("/", options.get("source", ""))),
        "read_only": _read_only(options, default=False),
    }


def _secret(options: dict[str, str], target: str) -> dict[str, Any]:
    """Id and target each follow from the other; a secret with only env makes no file."""
    if not options.get("id") and not target:
        raise Fault("invalid secret mount. one of source, target required")
    name = options.get("id") or basename(target)
    if not target and not options.get("env"):
        target = _SECRETS + basename(name)
    return {"id": name, "target": target, "env": options.get("env", "")}


def _octal(options: dict[str, str], key: str) -> int | None:
    value = options.get(key)
    if value is None:
        return None
    if not re.fullmatch(r"(0o)?[0-7]{1,5}", value):
        raise Fault(f"invalid value {value} for {key}", near=value)
    return int(value.removeprefix("0o"), 8)


def _number(options: dict[str, str], key: str) -> int:
    value = options.get(key, "0")
    if not re.fullmatch(r"\d{1,10}", value) or int(value) >= 1 << 32:
        raise Fault(f"invalid value {value} for {key}", near=value)
    return int(value)


def _size(options: dict[str, str]) -> int:
    value = options.get("size", "0")
    try:
        return parse_size(value)
    except InvalidParameter:
        raise Fault(f"invalid value for size: {value}", near=value) from None
