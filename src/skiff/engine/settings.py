"""daemon.json and the command line → Settings.

One table says which options exist, how they are spelled on either side and what they hold. An option stands
in the file or on the command line, never in both; unknown ones are refused, and so are Docker's options that
skiff does not do yet, unless they ask for what happens anyway.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from skiff import paths
from skiff.docker.units import parse_size, parse_span
from skiff.engine.options import (
    LEVELS,
    NOT_YET,
    OPTIONS,
    Flags,
    Option,
    by_key,
    parse_flags,
)
from skiff.errors import InvalidParameter, NotFound


class Runtime(Struct, frozen=True, kw_only=True):
    """A runtime beside our own. path: the program; arguments stand before the OCI command."""

    path: str = ""
    arguments: tuple[str, ...] = field(default=(), name="runtimeArgs")


class Ulimit(Struct, frozen=True, kw_only=True):
    """Default limit of a resource. -1: no limit."""

    name: str = field(name="Name")
    hard: int = field(name="Hard")
    soft: int = field(name="Soft")


class TrashSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long removed things can come back, and what share of the disk they may take until then.

    grace: a span such as `24h`; 0 deletes at once. share: 0–1 of the file system of the data root.
    """

    grace: str | int = "24h"
    share: float = 0.1

    @property
    def grace_ns(self) -> int:
        """InvalidParameter."""
        return parse_span(str(self.grace))


class BuilderGC(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Docker's `builder.gc`, without its policies: enabled, and how much the cache of builds may take.

    default_keep_storage: `20GB`; "" is a tenth of the disk. default_reserved_space: the newer name.
    """

    enabled: bool = True
    default_keep_storage: str = ""
    default_reserved_space: str = ""

    @property
    def is_kept(self) -> bool:
        return self.enabled

    @property
    def keep_bytes(self) -> int | None:
        """InvalidParameter."""
        text = self.default_reserved_space or self.default_keep_storage
        return parse_size(text) if text else None


class BuilderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gc: BuilderGC = BuilderGC()


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be asked of the engine at its start."""

    data_root: str = str(paths.DATA_ROOT)
    exec_root: str = str(paths.EXEC_ROOT)
    hosts: tuple[str, ...] = ()
    docker_socket: bool = False
    pidfile: str = ""
    group: str = "docker"
    debug: bool = False
    log_level: str = "info"
    registry_mirrors: tuple[str, ...] = ()
    mirrors: dict[str, tuple[str, ...]] = {}
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    insecure_registries: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    bip: str = ""
    bridge: str = ""
    mtu: int = 0
    publish_policy: str = "docker"
    cgroup_parent: str = ""
    compressed_layers: str = "keep"
    storage_driver: str = ""
    default_runtime: str = "skiff"
    runtimes: dict[str, Runtime] = {}
    default_ulimits: dict[str, Ulimit] = {}
    default_shm_size: int = 64 << 20
    init: bool = False
    no_new_privileges: bool = False
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    log_driver: str = "json-file"
    log_opts: dict[str, str] = {}
    live_restore: bool = True
    preload: bool = True
    shutdown_timeout: int = 15
    max_concurrent_downloads: int = 4
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    tls: bool = False
    tlsverify: bool = False
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    trash: TrashSettings = TrashSettings()
    builder: BuilderSettings = BuilderSettings()
    config_file: str = ""

    @property
    def listens_with_tls(self) -> bool:
        return self.tls or self.tlsverify


RELOADABLE: Final = (
    "debug",
    "labels",
    "registry_mirrors",
    "mirrors",
    "insecure_registries",
    "shutdown_timeout",
    "max_download_attempts",
)
"""What SIGHUP reads anew; the rest needs a restart."""

Read = Callable[[str], bytes]


def settings(arguments: Sequence[str], read: Read | None = None) -> Settings:
    """The engine's settings from its command line and the file that it names.

    read: bytes of a file. The default file may be absent, a named one may not.
    InvalidParameter says what dockerd would say.
    """
    flags = parse_flags(arguments)
    return _settings(flags, read or _read)


def reload(current: Settings, arguments: Sequence[str], read: Read | None = None) -> Settings:
    """`current` with the reloadable keys as the file says them now."""
    fresh = settings(arguments, read)
    return msgspec.structs.replace(current, **{name: getattr(fresh, name) for name in RELOADABLE})


def _settings(flags: Flags, read: Read) -> Settings:
    named = flags.get("config-file")
    path, document = _document(str(named) if named else None, read)
    try:
        document = _with_proxies(document)
        _refuse_unknown(document)
        _refuse_both(flags, document)
        _refuse_not_yet(document)
        values = {_field(by_key(key)): _typed(by_key(key), value) for key, value in document.items()}
    except InvalidParameter as error:
        raise InvalidParameter(f"unable to configure the Docker daemon with file {path}: {error}") from error
    for key, value in flags.items():
        if key != "config-file":
            values[_field(by_key(key))] = value
    values = {name: value for name, value in values.items() if name in Settings.__struct_fields__}
    values["config_file"] = path
    return _checked(msgspec.convert(values, Settings))


def _document(named: str | None, read: Read) -> tuple[str, dict[str, Any]]:
    """(path, content) of the configuration file; content is empty when none is there."""
    candidates = [named] if named else [str(paths.CONFIG_FILE), str(paths.DOCKER_CONFIG_FILE)]
    for path in candidates:
        try:
            raw = read(path)
        except NotFound:
            if named:
                raise InvalidParameter(
                    f"unable to configure the Docker daemon with file {path}: "
                    f"open {path}: no such file or directory"
                )
            continue
        if not raw.strip():
            return path, {}
        try:
            document = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"unable to configure the Docker daemon with file {path}: {error}")
        return path, document
    return candidates[0], {}


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFound(path)
    except OSError as error:
        raise InvalidParameter(f"cannot read {path}: {error.strerror}") from error


def _field(option: Option) -> str:
    return option.key.replace("-", "_")


def _with_proxies(document: dict[str, Any]) -> dict[str, Any]:
    """The three keys of `proxies`, as the flags call them. InvalidParameter."""
    if "proxies" not in document:
        return document
    proxies = document["proxies"]
    known = ("http-proxy", "https-proxy", "no-proxy")
    if not isinstance(proxies, dict) or not all(key in known for key in proxies):
        raise InvalidParameter(f"invalid value for proxies: expected an object of {', '.join(known)}")
    return {key: value for key, value in document.items() if key != "proxies"} | proxies


def _refuse_unknown(document: dict[str, Any]) -> None:
    known = {option.key for option in OPTIONS} | NOT_YET.keys()
    unknown = [key for key in document if key not in known or key == "config-file"]
    if unknown:
        raise InvalidParameter(
            f"the following directives don't match any configuration option: {', '.join(unknown)}"
        )


def _refuse_both(flags: Flags, document: dict[str, Any]) -> None:
    both = [
        f"{key}: (from flag: {_shown(flags[key])}, from file: {_shown(value)})"
        for key, value in document.items()
        if key in flags
    ]
    if both:
        raise InvalidParameter(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(both)
        )


def _refuse_not_yet(document: dict[str, Any]) -> None:
    for key, value in document.items():
        if key in NOT_YET and value not in NOT_YET[key]:
            raise InvalidParameter(f"skiff does not do {key} yet")


def _shown(value: Any) -> str:
    """A value as Go prints it: `[a b]`, `map[k:v]`, `true`."""
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(_shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_shown(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _typed(option: Option, value: Any) -> Any:
    """A value of the file, which must be of the kind its option holds."""
    if option.key in NOT_YET:
        return value
    if option.kind == "trash" and isinstance(value, str | int):  # the span alone
        value = {"grace": value}
    try:
        return msgspec.convert(value, _KINDS[option.kind])
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid value for {option.key}: {error}")


_KINDS: Final[dict[str, Any]] = {
    "text": str,
    "number": int,
    "bytes": int | str,
    "truth": bool,
    "texts": list[str],
    "lists": dict[str, list[str]],
    "pairs": dict[str, str],
    "runtimes": dict[str, Runtime],
    "ulimits": dict[str, Ulimit],
    "trash": TrashSettings,
    "builder": BuilderSettings,
}


def _checked(asked: Settings) -> Settings:
    """InvalidParameter for values that cannot mean anything."""
    if asked.log_level not in LEVELS:
        raise InvalidParameter(f"invalid logging level: {asked.log_level}")
    if asked.publish_policy not in ("docker", "host"):
        raise InvalidParameter(f"invalid publish-policy: {asked.publish_policy}: expected docker or host")
    for label in asked.labels:
        key, equals, _ = label.partition("=")
        if not key or not equals:
            raise InvalidParameter(f"bad attribute format: {label}")
    for mirror in (*asked.registry_mirrors, *(url for urls in asked.mirrors.values() for url in urls)):
        if not re.fullmatch(r"https?://[^/?#@\s]+/?[^?#@\s]*", mirror):
            raise InvalidParameter(
                f'invalid mirror: "{mirror}": expected http:// or https:// and a host, without user or query'
            )
    for registry in asked.insecure_registries:
        if "://" in registry or not re.fullmatch(r"[^\s]+", registry):
            raise InvalidParameter(f"insecure registry {registry} should not contain '://' or spaces")
    for host in asked.hosts:
        if not host.startswith(("unix://", "tcp://", "fd://")):
            raise InvalidParameter(f"invalid bind address format: {host}")
    for name, least in (
        ("max_concurrent_downloads", 1),
        ("max_concurrent_uploads", 1),
        ("max_download_attempts", 1),
    ):
        if getattr(asked, name) < least:
            raise InvalidParameter(f"invalid {name.replace('_', ' ')}: {getattr(asked, name)}")
    if asked.default_runtime not in {"skiff", "runc", "io.containerd.runc.v2", *asked.runtimes}:
        raise InvalidParameter(f"specified default runtime '{asked.default_runtime}' does not exist")
    if asked.storage_driver not in {"", "overlay2", "overlay", "vfs"}:
        raise InvalidParameter(f"unknown storage driver {asked.storage_driver}: expected overlay2 or vfs")
    if asked.compressed_layers not in {"keep", "drop"}:
        raise InvalidParameter(
            f"invalid compressed-layers {asked.compressed_layers!r}: expected keep or drop"
        )
    if (asked.builder.gc.keep_bytes or 0) < 0:
        raise InvalidParameter("invalid builder.gc.defaultKeepStorage: expected a size of 0 or more")
    trash = asked.trash
    if isinstance(trash.grace, int) and trash.grace:
        raise InvalidParameter(
            f"invalid grace of the trash: {trash.grace}: expected a span such as 24h, or 0"
        )
    if trash.grace_ns < 0 or not 0 <= trash.share <= 1:
        raise InvalidParameter("invalid trash: expected a grace of 0 or more and a share of 0–1")
    if asked.log_driver not in {"json-file", "local", "none"}:
        raise InvalidParameter(
            f"skiff has no log driver {asked.log_driver}: expected json-file, local or none"
        )
    return asked
