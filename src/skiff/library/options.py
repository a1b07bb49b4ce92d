"""Keyword arguments of `run` and `start` → the body of POST /containers/create. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from skiff.docker.units import parse_size
from skiff.errors import InvalidParameter

Port = int | str | tuple[str, int] | None


class Options(TypedDict, total=False):
    """What a container may be given. Names are those of the command line's flags.

    env:      variables; None takes this process's value away from the image's
    volumes:  as `-v` takes them: "/here:/there:ro", "name:/there"
    tmpfs:    "/run", "/run:size=64m"
    ports:    container port → host port, None for any free one: {80: 8080, "53/udp": ("127.0.0.1", 5353)}
    memory:   bytes, or "512m"; cpus: 1.5; pids_limit: how many processes
    network:  a network's name, "none", "host", "container:NAME"
    restart:  "no", "always", "unless-stopped", "on-failure", "on-failure:3"
    host_config: anything else that Docker's HostConfig has, spelled as there
    """

    name: str
    env: Mapping[str, str]
    volumes: Sequence[str]
    tmpfs: Sequence[str]
    ports: Mapping[int | str, Port]
    network: str
    hostname: str
    user: str
    workdir: str
    entrypoint: str | Sequence[str]
    labels: Mapping[str, str]
    memory: int | str
    cpus: float
    pids_limit: int
    restart: str
    privileged: bool
    read_only: bool
    init: bool
    tty: bool
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    stop_signal: str
    platform: str
    host_config: Mapping[str, Any]


def words(command: str | Sequence[str]) -> list[str]:
    """A command as its words: a list as it is, a string cut as a shell would, but not run by one.

    >>> words("echo 'a b'")
    ['echo', 'a b']
    """
    if not isinstance(command, str):
        return [str(word) for word in command]
    import shlex

    return shlex.split(command)


def body(image: str, command: str | Sequence[str], options: Options) -> dict[str, Any]:
    """The body of POST /containers/create; name and platform are no part of it. Raises InvalidParameter."""
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        raise InvalidParameter(f"no such option: {', '.join(sorted(unknown))}")
    exposed, bindings = _ports(options.get("ports") or {})
    entrypoint = options.get("entrypoint")
    host: dict[str, Any] = {
        "Binds": list(options.get("volumes") or ()) or None,
        "Tmpfs": dict(text.partition(":")[::2] for text in options.get("tmpfs") or ()) or None,
        "PortBindings": bindings,
        "NetworkMode": options.get("network") or "default",
        "RestartPolicy": _restart(options.get("restart") or "no"),
        "Memory": _memory(options.get("memory") or 0),
        "NanoCpus": round(float(options.get("cpus") or 0) * 1e9),
        "Privileged": bool(options.get("privileged")),
        "ReadonlyRootfs": bool(options.get("read_only")),
        "CapAdd": list(options.get("cap_add") or ()) or None,
        "CapDrop": list(options.get("cap_drop") or ()) or None,
    }
    if "pids_limit" in options:
        host["PidsLimit"] = options["pids_limit"]
    if "init" in options:
        host["Init"] = options["init"]
    host |= options.get("host_config") or {}
    wish: dict[str, Any] = {
        "Image": image,
        "Cmd": words(command) or None,
        "Env": [f"{name}={value}" for name, value in (options.get("env") or {}).items()] or None,
        "Hostname": options.get("hostname") or "",
        "User": options.get("user") or "",
        "WorkingDir": options.get("workdir") or "",
        "Entrypoint": None if entrypoint is None else words(entrypoint),
        "Labels": dict(options.get("labels") or {}),
        "Tty": bool(options.get("tty")),
        "HostConfig": host,
    }
    if exposed:
        wish["ExposedPorts"] = exposed
    if options.get("stop_signal"):
        wish["StopSignal"] = options["stop_signal"]
    return wish


def _ports(asked: Mapping[int | str, Port]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ExposedPorts, PortBindings)."""
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    for inner, outer in asked.items():
        key = str(inner) if "/" in str(inner) else f"{inner}/tcp"
        if not key.partition("/")[0].isdigit():
            raise InvalidParameter(f"expected a port number, or NUMBER/udp, not {inner!r}")
        address, port = outer if isinstance(outer, tuple) else ("", outer)
        exposed[key] = {}
        bindings[key] = [{"HostIp": address, "HostPort": "" if port is None else str(port)}]
    return exposed, bindings


def _restart(text: str) -> dict[str, Any]:
    name, _, count = text.partition(":")
    if count and not count.isdigit():
        raise InvalidParameter(f"expected on-failure:NUMBER, not {text!r}")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _memory(value: int | str) -> int:
    return value if isinstance(value, int) else parse_size(value)
