"""What `build` asks of the engine: its flags as the query and headers of POST /build."""

from __future__ import annotations

import os
import sys

from skiff.errors import InvalidParameter, NotImplementedHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]

PROGRESS = ("auto", "none", "plain", "tty", "quiet", "rawjson")


def fields(text: str) -> dict[str, str]:
    """`type=local,dest=x` → its fields: one record of CSV, as Docker reads it. InvalidParameter."""
    from skiff.cli.flags import parse_csv

    try:
        parts = parse_csv(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid value {text!r}: {error}") from error
    found = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidParameter(f"invalid field '{part}' must be a key=value pair")
        found[name.strip().lower()] = value
    return found


def query(session: Session, asked: Parsed) -> Json:
    from skiff.client import json_text

    def encoded(value: object) -> str | None:
        return json_text.encode(value).decode() if value else None

    if asked["progress"] not in PROGRESS:
        raise InvalidParameter(f"invalid progress mode {asked['progress']}")
    if asked["compress"]:
        raise NotImplementedHere(
            "skiff build does not do --compress: what has not changed is not sent at all"
        )
    labels = {name: value or "" for name, value in _pairs(asked["label"], session.env).items()}
    return {
        "t": asked["tag"] or None,
        "q": asked["quiet"] or None,
        "nocache": asked["no-cache"] or None,
        "nocachefilter": asked["no-cache-filter"] or None,
        "pull": asked["pull"] or None,
        "rm": asked["rm"],
        "forcerm": asked["force-rm"] or None,
        "squash": asked["squash"] or None,
        "target": asked["target"] or None,
        "platform": ",".join(asked["platform"]) or None,
        "networkmode": asked["network"] or None,
        "extrahosts": asked["add-host"] or None,
        "buildargs": encoded(_pairs(asked["build-arg"], session.env)),
        "labels": encoded(labels),
        "memory": asked["memory"] or None,
        "memswap": asked["memory-swap"] or None,
        "shmsize": asked["shm-size"] or None,
        "cpushares": asked["cpu-shares"] or None,
        "cpuperiod": asked["cpu-period"] or None,
        "cpuquota": asked["cpu-quota"] or None,
        "cpusetcpus": asked["cpuset-cpus"] or None,
        "cpusetmems": asked["cpuset-mems"] or None,
        "cgroupparent": asked["cgroup-parent"] or None,
        "ulimits": encoded(asked["ulimit"]),
        "securityopt": encoded(asked["security-opt"]),
        "isolation": asked["isolation"] or None,
        "allow": encoded(asked["allow"]),
        "check": asked["check"] or None,
        "why": asked["why"] or None,
        "verify": asked["verify"] or None,
        "version": "1",
    }


def _pairs(values: Iterable[str], env: Any) -> Json:
    """`A=b`; a bare `A` takes the value of this environment, and nothing when there is none."""
    found: Json = {}
    for text in values:
        name, equals, value = text.partition("=")
        found[name] = value if equals else (env(name) or None)
    return found


def headers(session: Session, asked: Parsed) -> dict[str, str]:
    from skiff.client.credentials import credentials, encoded

    found = {"Content-Type": "application/x-tar"}
    servers = session.config().values.get("auths") or {}
    known = {server: credentials(session.config(), server) for server in servers}
    if known:
        found["X-Registry-Config"] = encoded(known)
    secrets = dict(_secret(session, text) for text in asked["secret"])
    if secrets:
        found["X-Skiff-Build-Secrets"] = encoded(secrets)
    return found


def _secret(session: Session, text: str) -> tuple[str, str]:
    """`id=token,src=file`, `id=token,env=TOKEN`, or an id that names both."""
    from binascii import b2a_base64

    found = fields(text)
    id = found.get("id", "")
    if not id:
        raise InvalidParameter(f"invalid secret {text!r}: id is missing")
    path = found.get("src") or found.get("source")
    name = found.get("env") or ("" if path else id)
    if name and session.env(name):
        value = session.env(name).encode("utf-8", "surrogateescape")
    elif path or found.get("type") == "file":
        value = read(path or id)
    else:
        raise InvalidParameter(f"secret {id}: the variable {name} is not set")
    return id, b2a_base64(value, newline=False).decode()


def read(path: str) -> bytes:
    """A local file. InvalidParameter."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from error


def progress_goes(asked: Parsed) -> TextIO:
    """Where what happens is told: not where the result goes."""
    return sys.stderr if any(_is_stdout(text) for text in asked["output"]) else sys.stdout


def _is_stdout(output: str) -> bool:
    if "=" not in output:
        return output == "-"
    given = fields(output)
    return given.get("dest", "-" if given.get("type") in ("tar", "oci") else "") == "-"


def is_live(asked: Parsed) -> bool:
    """Whether a terminal is to be drawn on."""
    if asked["quiet"] or asked["progress"] in ("none", "plain", "rawjson", "quiet"):
        return False
    return asked["progress"] == "tty" or (
        os.environ.get("BUILDKIT_PROGRESS", "") not in ("plain", "rawjson") and sys.stdout.isatty()
    )
