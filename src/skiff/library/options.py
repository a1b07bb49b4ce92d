"""Keyword arguments of `run` and `start` → the body of POST /containers/create. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from skiff.docker.units import parse_size
from skiff.errors import InvalidParameter

Port = int | str | tuple[str, int] | None


class Options(TypedDict, total=False):
    """What a container may be given. Names are those of the command line's flags.

    env:      variables; None takes away what the image sets
    volumes:  as `-v` takes them: "/here:/there:ro", "name:/there"
    tmpfs:    "/run", "/run:size=64m"
    ports:    container port → host port, None for any free one: {80: 8080, "53/udp": ("127.0.0.1", 5353)}
    memory:   bytes, or "512m"; cpus: 1.5; pids_limit: how many processes
    network:  a network's name, "none", "host", "container:NAME"
    restart:  "no", "always", "unless-stopped", "on-failure", "on-failure:3"
    host_config: anything else that Docker's HostConfig has, spelled as there
    """

    name: str
    env: Mapping[str, str | None]
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


def variables(env: Mapping[str, str | None]) -> list[str]:
    """As the API takes them: a name alone is one that the image sets and that is not wanted."""
    return [name if value is None else f"{name}={value}" for name, value in env.items()]


def body(image: str, command: str | Sequence[str], options: Options) -> dict[str, Any]:
    """The body of POST /containers/create; name and platform are no part of it. Raises InvalidParameter."""
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        raise InvalidParameter(f"no such option: {', '.join(sorted(unknown))}")
    exposed, bindings = _ports(options.get("ports") or {})
    entrypoint = options.get("entrypoint")
    host: dict[str, Any] = {
        "Binds": _several("volumes", options.get("volumes")) or None,
        "Tmpfs": dict(text.partition(":")[::2] for text in _several("tmpfs", options.get("tmpfs"))) or None,
        "PortBindings": bindings,
        "NetworkMode": options.get("network") or "default",
        "RestartPolicy": _restart(options.get("restart") or "no"),
        "Memory": _memory(options.get("memory") or 0),
        "NanoCpus": round(float(options.get("cpus") or 0) * 1e9),
        "Privileged": bool(options.get("privileged")),
        "ReadonlyRootfs": bool(options.get("read_only")),
        "CapAdd": _several("cap_add", options.get("cap_add")) or None,
        "CapDrop": _several("cap_drop", options.get("cap_drop")) or None,
    }
    if "pids_limit" in options:
        host["PidsLimit"] = options["pids_limit"]
    if "init" in options:
        host["Init"] = options["init"]
    host |= options.get("host_config") or {}
    wish: dict[str, Any] = {
        "Image": image,
        "Cmd": words(command) or None,
        "Env": variables(options.get("env") or {}) or None,
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


def _several(name: str, values: Sequence[str] | None) -> list[str]:
    if isinstance(values, str):
        raise InvalidParameter(f"expected a list for {name}, not {values!r}: [{values!r}]")
    return list(values or ())


def _ports(asked: Mapping[int | str, Port]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ExposedPorts, PortBindings)."""
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    if not isinstance(asked, Mapping):
        raise InvalidParameter(f"expected {{container port: host port or None}} for ports, not {asked!r}")
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
