"""The engine's options, as a table, and the grammar of its command line.

Pure. A word of the command line is one of

    --name value | --name=value | --switch | --switch=false
    -H value | -Hvalue | -H=value | -Dl debug         (short forms, switches may be joined)

The names, the short forms and the plural keys of the file are dockerd's.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from skiff.errors import InvalidParameter

Kind = Literal[
    "text", "number", "bytes", "truth", "texts", "pairs", "lists", "runtimes", "ulimits", "trash", "builder"
]
Flags = dict[str, Any]

LEVELS: Final = ("debug", "info", "warn", "error", "fatal")


class Option(NamedTuple):
    """key: its name in daemon.json; flag: on the command line, when that differs."""

    key: str
    kind: Kind
    help: str
    flag: str = ""
    short: str = ""

    @property
    def name(self) -> str:
        return self.flag or self.key


OPTIONS: Final = (
    Option("bip", "text", "Address of the default bridge"),
    Option("bridge", "text", "Name of the default bridge"),
    Option("cgroup-parent", "text", "Parent cgroup of all containers"),
    Option("config-file", "text", "Configuration file (default /etc/skiff/daemon.json)"),
    Option("data-root", "text", "Directory of images, containers and volumes"),
    Option("debug", "truth", "Log more", short="D"),
    Option("default-runtime", "text", "Runtime of containers that name none"),
    Option("default-shm-size", "bytes", "Size of /dev/shm"),
    Option("default-ulimits", "ulimits", "Limits of containers that set none", flag="default-ulimit"),
    Option("dns", "texts", "Name server of containers"),
    Option("dns-opts", "texts", "Resolver option", flag="dns-opt"),
    Option("dns-search", "texts", "Search domain"),
    Option("docker-socket", "truth", "Answer at /var/run/docker.sock too, if no other engine does"),
    Option("exec-root", "text", "Directory of running state"),
    Option("group", "text", "Group of the unix socket", short="G"),
    Option("hosts", "texts", "Listen here: unix://, tcp://, fd://", flag="host", short="H"),
    Option("http-proxy", "text", "Proxy on the way to registries, for http URLs"),
    Option("https-proxy", "text", "Proxy on the way to registries, for https URLs"),
    Option("init", "truth", "Run an init in every container"),
    Option("insecure-registries", "texts", "Registry without TLS or with any", flag="insecure-registry"),
    Option("labels", "texts", "key=value about this engine", flag="label"),
    Option("live-restore", "truth", "Containers outlive the engine, which they always do"),
    Option("log-driver", "text", "Log driver of containers that name none"),
    Option("log-level", "text", "debug, info, warn, error or fatal", short="l"),
    Option("log-opts", "pairs", "Option of the default log driver", flag="log-opt"),
    Option("max-concurrent-downloads", "number", "Layers pulled at once"),
    Option("max-concurrent-uploads", "number", "Layers pushed at once"),
    Option("max-download-attempts", "number", "Tries for each layer"),
    Option("mtu", "number", "MTU of container networks"),
    Option("no-new-privileges", "truth", "Set no-new-privileges in containers"),
    Option("pidfile", "text", "File that holds the process id", short="p"),
    Option(
        "publish-policy", "text", "docker: published ports pass the host's FORWARD drop; host: they do not"
    ),
    Option("mirrors", "lists", "registry=URL of a mirror of any registry, in order", flag="mirror"),
    Option("no-proxy", "text", "Hosts and ranges that are reached without a proxy, comma-separated"),
    Option("preload", "truth", "Keep the command line loaded once it has called, which is the default"),
    Option("registry-mirrors", "texts", "Mirror of Docker Hub", flag="registry-mirror"),
    Option("runtimes", "runtimes", "name=path of a runc-compatible program", flag="add-runtime"),
    Option("shutdown-timeout", "number", "Seconds that requests in progress get at shutdown"),
    Option(
        "compressed-layers", "text", "keep what images came as, or drop: less disk, a push compresses anew"
    ),
    Option("storage-driver", "text", "overlay2", short="s"),
    Option("tls", "truth", "Use TLS on tcp:// sockets"),
    Option("tlscacert", "text", "CA that client certificates are checked against"),
    Option("tlscert", "text", "Certificate"),
    Option("tlskey", "text", "Key of the certificate"),
    Option("builder", "builder", "How much the cache of builds may take, such as 20GB"),
    Option("trash", "trash", "How long removed things can come back: a span such as 24h, 0 for not at all"),
    Option("tlsverify", "truth", "Use TLS and demand a client certificate"),
)

# Docker's options that are not done, and the values that ask for what happens anyway.
NOT_YET: Final[dict[str, tuple[Any, ...]]] = {
    "allow-direct-routing": (False,),
    "allow-nondistributable-artifacts": ([],),
    "api-cors-header": ("",),
    "authorization-plugins": ([],),
    "bip6": ("",),
    "bridge-accept-fwmark": ("",),
    "cdi-spec-dirs": ([],),
    "cluster-advertise": ("",),
    "cluster-store": ("",),
    "containerd": ("",),
    "containerd-namespace": ("",),
    "containerd-plugin-namespace": ("",),
    "cpu-rt-period": (0,),
    "cpu-rt-runtime": (0,),
    "cri-containerd": (False,),
    "default-address-pools": ([],),
    "default-cgroupns-mode": ("private",),
    "default-gateway": ("",),
    "default-gateway-v6": ("",),
    "default-ipc-mode": ("private",),
    "default-network-opts": ({},),
    "exec-opts": ([], ["native.cgroupdriver=cgroupfs"]),
    "experimental": (False,),
    "features": ({},),
    "firewall-backend": ("", "nftables"),
    "fixed-cidr": ("",),
    "fixed-cidr-v6": ("",),
    "host-gateway-ip": ("",),
    "host-gateway-ips": ([],),
    "icc": (True,),
    "init-path": ("",),
    "ip": ("", "0.0.0.0"),
    "ip-forward": (True,),
    "ip-masq": (True,),
    "ip6tables": (False,),
    "iptables": (True,),
    "ipv6": (False,),
    "log-format": ("", "text"),
    "metrics-addr": ("",),
    "network-control-plane-mtu": (0, 1500),
    "node-generic-resources": ([],),
    "oom-score-adjust": (0,),
    "raw-logs": (False, True),
    "rootless": (False,),
    "seccomp-profile": ("", "builtin"),
    "selinux-enabled": (False,),
    "storage-opts": ([],),
    "swarm-default-advertise-addr": ("",),
    "userland-proxy": (True, False),
    "userland-proxy-path": ("",),
    "userns-remap": ("",),
}

_BY_KEY: Final = {option.key: option for option in OPTIONS}
_BY_NAME: Final = {option.name: option for option in OPTIONS}
_BY_SHORT: Final = {option.short: option for option in OPTIONS if option.short}

SWITCHES_NOT_YET: Final = frozenset(
    key for key, values in NOT_YET.items() if True in values or False in values
)


def by_key(key: str) -> Option:
    """The option of a key of the file, known or not yet done."""
    return _BY_KEY.get(key) or Option(key, "text", "")


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Key → value of each flag given. InvalidParameter in dockerd's words."""
    flags: Flags = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            _long(flags, name, value if equals else None, rest)
        elif word.startswith("-") and len(word) > 1:
            _short(flags, word[1:], rest)
        else:
            rest.insert(0, word)
            break
    if rest:
        raise InvalidParameter(f'"skiffd" accepts no arguments: got {rest[0]}')
    return flags


def usage() -> str:
    """The text of --help."""
    lines = [
        "Usage:  skiffd [OPTIONS]",
        "",
        "A container engine that speaks the Docker Engine API",
        "",
        "Options:",
    ]
    for option in sorted((*OPTIONS, HELP, VERSION), key=lambda option: option.name):
        if option.key in NOT_YET:
            continue
        short = f"-{option.short}, " if option.short else "    "
        kind = {"truth": "", "texts": " list", "pairs": " map", "number": " int"}.get(option.kind, " string")
        lines.append(f"  {short}--{option.name + kind:<34} {option.help}")
    return "\n".join(lines) + "\n"


HELP: Final = Option("help", "truth", "Print this")
VERSION: Final = Option("version", "truth", "Print the version", short="v")


def _long(flags: Flags, name: str, value: str | None, rest: list[str]) -> None:
    option = _BY_NAME.get(name)
    singular = name if name in NOT_YET else name + "s" if name + "s" in NOT_YET else ""
    if option is None and singular:
        option = Option(singular, "truth" if singular in SWITCHES_NOT_YET else "text", "", flag=name)
    if option is None:
        raise InvalidParameter(f"unknown flag: --{name}\nSee 'skiffd --help'.")
    if value is None:
        if option.kind == "truth":
            value = "true"
        elif rest:
            value = rest.pop(0)
        else:
            raise InvalidParameter(f"flag needs an argument: --{name}")
    _put(flags, option, value, f"--{name}")


def _short(flags: Flags, letters: str, rest: list[str]) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        option = _BY_SHORT.get(letter)
        if option is None:
            raise InvalidParameter(
                f"unknown shorthand flag: '{letter}' in -{letter}{letters}\nSee 'skiffd --help'."
            )
        if option.kind == "truth" and not letters.startswith("="):
            value = "true"
        elif letters:
            value, letters = letters.removeprefix("="), ""
        elif rest:
            value = rest.pop(0)
        else:
            raise InvalidParameter(f"flag needs an argument: '{letter}' in -{letter}")
        _put(flags, option, value, f"-{letter}, --{option.name}")


def _put(flags: Flags, option: Option, text: str, shown: str) -> None:
    try:
        value = _value(option, text)
    except ValueError as error:
        raise InvalidParameter(f'invalid argument "{text}" for "{shown}" flag: {error}')
    if option.key in NOT_YET and value not in NOT_YET[option.key]:
        raise InvalidParameter(f"skiff does not do --{option.name} yet")
    if isinstance(value, list):
        flags.setdefault(option.key, []).extend(value)
    elif isinstance(value, dict):
        known = flags.setdefault(option.key, {})
        for key, one in value.items():
            known[key] = [*known.get(key, []), *one] if option.kind == "lists" else one
    else:
        flags[option.key] = value


def _value(option: Option, text: str) -> Any:
    """ValueError says what was expected."""
    match option.kind:
        case "truth":
            return _truth(text)
        case "number":
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
                raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
            return int(text)
        case "bytes":
            return text
        case "texts":
            return [text]
        case "pairs":
            key, _, value = text.partition("=")
            return {key: value}
        case "lists":
            key, equals, value = text.partition("=")
            if not equals or not key or not value:
                raise ValueError("expected registry=URL")
            return {key: [value]}
        case "runtimes":
            name, equals, path = text.partition("=")
            if not equals or not name.strip() or not path.strip():
                raise ValueError("expected name=path")
            if name in ("runc", "skiff"):
                raise ValueError(f"runtime name '{name}' is reserved")
            return {name.strip(): {"path": path.strip(), "runtimeArgs": ()}}
        case "ulimits":
            return _ulimit(text)
        case "trash":
            return {"grace": text}
        case "builder":
            return {"gc": {"defaultKeepStorage": text}}
        case _:
            return text


def _truth(text: str) -> bool:
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def _ulimit(text: str) -> dict[str, dict[str, Any]]:
    """`nofile=1024:2048` or `nofile=1024`."""
    match = re.fullmatch(r"([a-z]+)=(-?\d{1,18})(?::(-?\d{1,18}))?", text)
    if not match:
        raise ValueError("expected name=soft[:hard]")
    name, soft, hard = match.groups()
    limit = {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
    if limit["Hard"] != -1 and (limit["Soft"] > limit["Hard"] or limit["Soft"] == -1):  # type: ignore[operator]
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {name: limit}
