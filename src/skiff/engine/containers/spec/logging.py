"""What `--log-driver` and `--log-opt` mean for the monitor that writes the log. Pure.

`local` is a format of Docker's own that only Docker reads; ours has the records of json-file and that
driver's defaults. `mode=non-blocking` asks that a slow driver does not hold up the container: both drivers
write to a file and never wait for a reader, so it changes nothing here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from skiff.docker.container import LogConfig
from skiff.docker.units import parse_size
from skiff.engine.containers.record import Container
from skiff.engine.execution import runtime
from skiff.errors import InvalidParameter

ATTRIBUTES: Final = frozenset(("labels", "labels-regex", "env", "env-regex", "tag"))
ROTATION: Final = frozenset(("max-size", "max-file", "compress"))
DELIVERY: Final = frozenset(("mode", "max-buffer-size"))
OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "json-file": ROTATION | ATTRIBUTES,
    "local": ROTATION,
    "none": frozenset(),
}
WRITTEN: Final = ("json-file", "local")
LOCAL_DEFAULTS: Final = {"max-size": "20m", "max-file": "5", "compress": "true"}

_FIELD: Final = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")


def check(log: LogConfig) -> None:
    """InvalidParameter in Docker's words."""
    driver, options = log.type, log.config or {}
    if driver not in OPTIONS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for key in options:
        if key not in OPTIONS[driver] | DELIVERY:
            raise InvalidParameter(f"unknown log opt '{key}' for {driver} log driver")
    mode = options.get("mode", "blocking")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        parse_size(options["max-buffer-size"])
    for key in ("labels-regex", "env-regex"):
        _pattern(key, options.get(key, ""))
    for name in _FIELD.findall(options.get("tag", "")):
        if name not in _TAGS:
            raise InvalidParameter(f"invalid tag: no field {name}")
    if "{{" in _FIELD.sub("", options.get("tag", "")):
        raise InvalidParameter(f"invalid tag: {options['tag']}: expected fields such as {{{{.Name}}}}")
    _rotation(driver, options)


def config(container: Container, path: str) -> runtime.LogConfig:
    """The monitor's log of a container whose options were checked at create."""
    log = container.host.log_config
    size, count, compress = _rotation(log.type, log.config or {})
    return runtime.LogConfig(
        driver=log.type,
        path=path if log.type in WRITTEN else "",
        max_size=size,
        max_file=count,
        compress=compress,
        attributes=attributes(container),
    )


def attributes(container: Container) -> dict[str, str]:
    """Labels, environment and tag that the log records carry."""
    options = container.host.log_config.config or {}
    environment = dict(entry.partition("=")[::2] for entry in container.config.env or ())
    found = dict(_chosen("labels", options, container.config.labels or {}))
    found.update(_chosen("env", options, environment))
    if options.get("tag"):
        found["tag"] = _FIELD.sub(lambda field: _TAGS[field[1]](container), options["tag"])
    return found


_TAGS: Final[Mapping[str, Callable[[Container], str]]] = {
    "ID": lambda c: c.id[:12],
    "FullID": lambda c: c.id,
    "Name": lambda c: c.name,
    "ImageName": lambda c: c.config.image,
    "ImageID": lambda c: str(c.image).removeprefix("sha256:")[:12],
    "ImageFullID": lambda c: str(c.image),
    "DaemonName": lambda c: "docker",
}


def _chosen(kind: str, options: Mapping[str, str], have: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    named = options.get(kind, "").split(",")
    pattern = _pattern(f"{kind}-regex", options.get(f"{kind}-regex", ""))
    for name, value in have.items():
        if name in named or (pattern and pattern.search(name)):
            yield name, value


def _pattern(key: str, text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise InvalidParameter(f"invalid {key}: {text}: {error}") from error


def _rotation(driver: str, options: Mapping[str, str]) -> tuple[int, int, bool]:
    """(bytes of a file, files, whether old ones are compressed)."""
    options = (LOCAL_DEFAULTS if driver == "local" else {}) | dict(options)
    size, count = options.get("max-size", ""), options.get("max-file", "1")
    compress = options.get("compress", "false")
    if not count.isdigit() or int(count) < 1:
        raise InvalidParameter(f"invalid value for max-file: {count}: expected 1 or more")
    if compress not in ("true", "false"):
        raise InvalidParameter(f"invalid value for compress: {compress}: expected true or false")
    limit = parse_size(size) if size and size != "-1" else 0
    return limit, int(count), compress == "true"
