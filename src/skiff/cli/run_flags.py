"""The flags of `run` and `create` → the body of POST /containers/create. Pure: files and surroundings are handed in.

Two kinds of error, as in Docker: a value that cannot be parsed is a FlagError while reading the line (PARSERS);
values that do not fit together are a RunError afterwards (`wish`). Both end in exit code 125.
"""

from __future__ import annotations

from skiff.cli import run_mounts, run_ports
from skiff.cli.flags import parse_bytes
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from skiff.cli.flags import Parsed

ULIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)
KERNEL_SYSCTLS = frozenset(
    f"kernel.{name}" for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)


class RunError(InvalidParameter):
    """The flags do not make a container."""


class RunWish:
    """What `run` or `create` was asked for.

    body: the container, as POST /containers/create wants it.
    """

    __slots__ = ("body", "image", "name", "platform")

    def __init__(self, image: str, body: dict[str, Any], name: str, platform: str) -> None:
        self.image = image
        self.body = body
        self.name = name
        self.platform = platform


class Surroundings:
    """The world as `wish` may see it. read: a file's text, OSError; environment: the user's variables."""

    __slots__ = ("cwd", "environment", "home", "read")

    def __init__(
        self, *, cwd: str, home: str, environment: Mapping[str, str], read: Callable[[str], str]
    ) -> None:
        self.cwd = cwd
        self.home = home
        self.environment = environment
        self.read = read


# -- parsers of single values: ValueError says why --------------------------------------------------------------


def parse_cpus(text: str) -> int:
    """1.5 → 1500000000 (NanoCpus). Also 3/2."""
    wrong = ValueError(f"failed to parse {text} as a rational number")
    top, slash, bottom = text.partition("/")
    whole, _, fraction = top.partition(".")
    sign = -1 if whole[:1] == "-" else 1
    digits = whole.lstrip("+-")
    if (
        not (digits + fraction).isdecimal()
        or (slash and not bottom.isdecimal())
        or (slash and not int(bottom))
    ):
        raise wrong
    scaled = sign * int((digits or "0") + fraction) * 1_000_000_000
    divisor = 10 ** len(fraction) * int(bottom or "1")
    if scaled % divisor:
        raise ValueError("value is too precise")
    return scaled // divisor


def parse_swap(text: str) -> int:
    return -1 if text == "-1" else parse_bytes(text)


def parse_stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def parse_env(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def parse_host(text: str) -> str:
    """name:ip or name=ip → name:ip."""
    for separator in ("=", ":"):
        name, found, ip = text.partition(separator)
        if found:
            break
    if not found or not name:
        raise ValueError(f'bad format for add-host: "{text}"')
    ip = ip[1:-1] if ip[:1] == "[" and ip[-1:] == "]" else ip
    if ip != "host-gateway" and not run_ports.is_ip(ip):
        raise ValueError(f'invalid IP address in add-host: "{ip}"')
    return f"{name}:{ip}"


def parse_ip(text: str) -> str:
    if not run_ports.is_ip(text.strip()):
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return text.strip()


def parse_link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def parse_sysctl(text: str) -> str:
    name, equals, _ = text.partition("=")
    if equals and (name in KERNEL_SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed")


def parse_ulimit(text: str) -> dict[str, Any]:
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = limits.split(":")
    if len(parts) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    values = []
    for part in parts:
        if not part.removeprefix("-").isdecimal():
            raise ValueError(f'strconv.ParseInt: parsing "{part}": invalid syntax')
        values.append(int(part))
    soft, hard = values[0], values[-1]
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def parse_throttle_bytes(text: str) -> dict[str, Any]:
    path, rate = _device_rate(text)
    try:
        return {"Path": path, "Rate": parse_bytes(rate)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def parse_throttle(text: str) -> dict[str, Any]:
    path, rate = _device_rate(text)
    if not rate.isdecimal():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(rate)}


def parse_weight(text: str) -> dict[str, Any]:
    path, weight = _device_rate(text)
    if not weight.isdecimal() or (int(weight) and not 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def _device_rate(text: str) -> tuple[str, str]:
    path, colon, rate = text.partition(":")
    if not colon or not path or ":" in rate:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, rate


def parse_device_rule(text: str) -> str:
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    good = kind in ("a", "b", "c") and colon and access and not access.strip("rwm") and len(access) <= 3
    if not good or any(n != "*" and not n.isdecimal() for n in (major, minor)):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


PARSERS: dict[str, Callable[[str], Any]] = {
    "decimal": parse_cpus,
    "ulimit": parse_ulimit,
    "mount": run_mounts.mount,
    "network": run_ports.network,
    "--memory-swap": parse_swap,
    "--attach": parse_stream,
    "--env": parse_env,
    "--add-host": parse_host,
    "--dns": parse_ip,
    "--link": parse_link,
    "--sysctl": parse_sysctl,
    "--device-read-bps": parse_throttle_bytes,
    "--device-write-bps": parse_throttle_bytes,
    "--device-read-iops": parse_throttle,
    "--device-write-iops": parse_throttle,
    "--blkio-weight-device": parse_weight,
    "--device-cgroup-rule": parse_device_rule,
}


# -- the whole ----------------------------------------------------------------------------------------------------


def wish(flags: Parsed, around: Surroundings, *, detach: bool = False) -> RunWish:
    """Raises RunError."""
    _refuse(flags)
    image, command = flags.args[0], flags.args[1:]
    streams = set(flags["attach"])
    if not streams and not detach:
        streams = {"stdout", "stderr"} | ({"stdin"} if flags["interactive"] else set())
    if detach:
        streams = set()
    try:
        exposed, ports = run_ports.published(flags["publish"])
        exposed |= run_ports.exposed(flags["expose"])
        host, endpoints = _host(flags, around, ports)
        binds, anonymous = run_mounts.volumes(flags["volume"], cwd=around.cwd, home=around.home)
        body: dict[str, Any] = {
            "Hostname": flags["hostname"],
            "Domainname": flags["domainname"],
            "User": flags["user"],
            "AttachStdin": "stdin" in streams,
            "AttachStdout": "stdout" in streams,
            "AttachStderr": "stderr" in streams,
            "Tty": flags["tty"],
            "OpenStdin": flags["interactive"],
            "StdinOnce": flags["interactive"] and "stdin" in streams,
            "Env": environment(flags["env-file"], flags["env"], around) or None,
            "Cmd": command or None,
            "Image": image,
            "Volumes": anonymous,
            "WorkingDir": flags["workdir"],
            "Entrypoint": [flags["entrypoint"]] if "entrypoint" in flags.changed else None,
            "Labels": labels(flags["label-file"], flags["label"], around),
        }
        if exposed:
            body["ExposedPorts"] = exposed
        if flags["stop-signal"]:
            body["StopSignal"] = flags["stop-signal"]
        if "stop-timeout" in flags.changed:
            body["StopTimeout"] = flags["stop-timeout"]
        health = _health(flags)
        if health is not None:
            body["Healthcheck"] = health
    except ValueError as error:
        raise RunError(str(error)) from error
    host["Binds"] = binds or None
    body["HostConfig"] = host
    body["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return RunWish(
        image, body, flags["name"], flags["platform"] or around.environment.get("DOCKER_DEFAULT_PLATFORM", "")
    )


def _refuse(flags: Parsed) -> None:
    """What skiff does not do is said, not dropped."""
    for name, why in (
        ("gpus", "device requests need a GPU driver, which skiff does not have"),
        ("isolation", "isolation technologies exist on Windows only"),
        ("use-api-socket", "not supported by skiff: mount the socket with -v"),
    ):
        if flags[name] and not (name == "isolation" and flags[name] == "default"):
            raise RunError(f"--{name}: {why}")
    if "disable-content-trust" in flags.changed and not flags["disable-content-trust"]:
        raise RunError("--disable-content-trust=false: content trust is not supported by skiff")
    if flags["pull"] not in ("always", "missing", "never"):
        raise RunError(
            f'invalid pull option: \'{flags["pull"]}\': must be one of "always", "missing" or "never"'
        )


def _host(
    flags: Parsed, around: Surroundings, ports: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(HostConfig without Binds, EndpointsConfig)."""
    swappiness = flags["memory-swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    _check_modes(flags)
    restart = restart_policy(flags["restart"])
    if flags["rm"] and restart["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    mode, endpoints = run_ports.endpoints(
        [*flags["network"], *flags["net"]],
        aliases=[*flags["network-alias"], *flags["net-alias"]],
        links=flags["link"],
        ip=flags["ip"],
        ip6=flags["ip6"],
        link_local=flags["link-local-ip"],
        mac=flags["mac-address"],
    )
    devices, cdi = run_mounts.devices(flags["device"])
    log = _pairs(flags["log-opt"])
    if flags["log-driver"] == "none" and log:
        raise ValueError("invalid logging opts for driver none")
    storage = _pairs(flags["storage-opt"], need_value="invalid storage option")
    host: dict[str, Any] = {
        "ContainerIDFile": flags["cidfile"],
        "LogConfig": {"Type": flags["log-driver"], "Config": log},
        "NetworkMode": mode,
        "PortBindings": ports,
        "RestartPolicy": restart,
        "AutoRemove": flags["rm"],
        "VolumeDriver": flags["volume-driver"],
        "VolumesFrom": flags["volumes-from"] or None,
        "CapAdd": _capabilities(flags["cap-add"]),
        "CapDrop": _capabilities(flags["cap-drop"]),
        "CgroupnsMode": flags["cgroupns"],
        "Dns": flags["dns"],
        "DnsOptions": [*flags["dns-option"], *flags["dns-opt"]],
        "DnsSearch": flags["dns-search"],
        "ExtraHosts": flags["add-host"] or None,
        "GroupAdd": flags["group-add"] or None,
        "IpcMode": flags["ipc"],
        "Links": flags["link"] or None,
        "OomScoreAdj": flags["oom-score-adj"],
        "PidMode": flags["pid"],
        "Privileged": flags["privileged"],
        "PublishAllPorts": flags["publish-all"],
        "ReadonlyRootfs": flags["read-only"],
        "UTSMode": flags["uts"],
        "UsernsMode": flags["userns"],
        "ShmSize": flags["shm-size"],
        "CpuShares": flags["cpu-shares"],
        "Memory": flags["memory"],
        "NanoCpus": flags["cpus"] or 0,
        "CgroupParent": flags["cgroup-parent"],
        "BlkioWeight": flags["blkio-weight"],
        "BlkioWeightDevice": flags["blkio-weight-device"],
        "BlkioDeviceReadBps": flags["device-read-bps"],
        "BlkioDeviceWriteBps": flags["device-write-bps"],
        "BlkioDeviceReadIOps": flags["device-read-iops"],
        "BlkioDeviceWriteIOps": flags["device-write-iops"],
        "CpuPeriod": flags["cpu-period"],
        "CpuQuota": flags["cpu-quota"],
        "CpuRealtimePeriod": flags["cpu-rt-period"],
        "CpuRealtimeRuntime": flags["cpu-rt-runtime"],
        "CpusetCpus": flags["cpuset-cpus"],
        "CpusetMems": flags["cpuset-mems"],
        "Devices": devices,
        "DeviceCgroupRules": flags["device-cgroup-rule"] or None,
        "MemoryReservation": flags["memory-reservation"],
        "MemorySwap": flags["memory-swap"],
        "MemorySwappiness": swappiness,
        "OomKillDisable": flags["oom-kill-disable"],
        "PidsLimit": flags["pids-limit"],
        "Ulimits": sorted({u["Name"]: u for u in flags["ulimit"]}.values(), key=lambda u: str(u["Name"])),
        "Isolation": flags["isolation"],
    }
    if cdi:
        host["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": cdi}]
    for key, value in (
        ("Mounts", flags["mount"]),
        ("Tmpfs", run_mounts.tmpfs(flags["tmpfs"])),
        ("Sysctls", _pairs(flags["sysctl"])),
        ("Annotations", _pairs(flags["annotation"])),
        ("StorageOpt", storage),
        ("Runtime", flags["runtime"]),
        ("KernelMemory", flags["kernel-memory"]),
    ):
        if value:
            host[key] = value
    if "init" in flags.changed:
        host["Init"] = flags["init"]
    _security(flags["security-opt"], around, host)
    return host, endpoints


def _check_modes(flags: Parsed) -> None:
    container = "container:"
    for flag, word, allowed, joins in (
        ("pid", "PID", ("", "host"), True),
        ("uts", "UTS", ("", "host"), False),
        ("userns", "USER", ("", "host"), False),
        ("cgroupns", "CGROUP", ("", "host", "private"), False),
    ):
        value = flags[flag]
        if value not in allowed and not (
            joins and len(value) > len(container) and value.startswith(container)
        ):
            raise ValueError(f"--{flag}: invalid {word} mode")


def restart_policy(text: str) -> dict[str, Any]:
    """no | always | unless-stopped | on-failure[:retries]."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    if colon and not count.removeprefix("-").isdecimal():
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count) if colon else 0}


def _capabilities(names: Sequence[str]) -> list[str] | None:
    """Upper case with CAP_ before; sorted, as Docker sends them."""
    found = set()
    for name in names:
        upper = name.strip().upper()
        found.add(upper if upper == "ALL" or upper.startswith("CAP_") else f"CAP_{upper}")
    return ["ALL"] if "ALL" in found else sorted(found) or None


def _security(options: Sequence[str], around: Surroundings, host: dict[str, Any]) -> None:
    kept = []
    for option in options:
        equals = min((at for at in (option.find("="), option.find(":")) if at >= 0), default=-1)
        name, value = (option[:equals], option[equals + 1 :]) if equals >= 0 else (option, "")
        if equals < 0 and option != "no-new-privileges":
            raise ValueError(f'Invalid --security-opt: "{option}"')
        if name == "systempaths" and value == "unconfined":
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            try:
                option = f"seccomp={around.read(value)}"
            except OSError as error:
                raise ValueError(
                    f"opening seccomp profile ({value}) failed: {_open(value, error)}"
                ) from error
        kept.append(option)
    if kept:
        host["SecurityOpt"] = kept


def _health(flags: Parsed) -> dict[str, Any] | None:
    fields = {
        "Interval": "health-interval",
        "Timeout": "health-timeout",
        "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval",
        "Retries": "health-retries",
    }
    given = {field: flags[name] for field, name in fields.items() if flags[name]}
    for name in fields.values():
        if flags[name] < 0:
            raise ValueError(f"--{name} cannot be negative")
    if flags["no-healthcheck"]:
        if given or flags["health-cmd"]:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if flags["health-cmd"]:
        return {"Test": ["CMD-SHELL", flags["health-cmd"]], **given}
    return given or None


def _pairs(texts: Sequence[str], *, need_value: str = "") -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if need_value and not equals:
            raise ValueError(need_value)
        found[key] = value
    return found


def environment(files: Sequence[str], given: Sequence[str], around: Surroundings) -> list[str]:
    """Files first, then -e. NAME alone takes the user's own value; unset, -e keeps the bare name (it unsets)."""
    found = []
    for path in files:
        for line in _lines(path, around, "env"):
            name, equals, _ = line.partition("=")
            if equals:
                found.append(line)
            elif name in around.environment:
                found.append(f"{name}={around.environment[name]}")
    for text in given:
        if "=" not in text and text in around.environment:
            text = f"{text}={around.environment[text]}"
        found.append(text)
    return found


def labels(files: Sequence[str], given: Sequence[str], around: Surroundings) -> dict[str, str]:
    lines = [line for path in files for line in _lines(path, around, "label")]
    return _pairs([*lines, *given])


def _lines(path: str, around: Surroundings, what: str) -> list[str]:
    """One NAME=value per line; # begins a comment line; white space before a name is dropped."""
    try:
        text = around.read(path)
    except OSError as error:
        raise ValueError(_open(path, error)) from error
    except UnicodeDecodeError:
        raise ValueError(f"invalid {what} file ({path}): not UTF-8") from None
    found = []
    for line in text.removeprefix("\ufeff").split("\n"):
        line = line.removesuffix("\r").lstrip(" \t")
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if any(c.isspace() for c in name):
            raise ValueError(f"invalid {what} file ({path}): variable '{name}' contains whitespaces")
        if not name:
            raise ValueError(f"invalid {what} file ({path}): no variable name on line '{line}'")
        found.append(line)
    return found


def _open(path: str, error: OSError) -> str:
    return f"open {path}: {(error.strerror or str(error)).lower()}"
