"""The flags of `run` and `create` → the body of POST /containers/create. Pure: surroundings are handed in.

Two kinds of error, as in Docker: a value that cannot be parsed is a FlagError while reading the line
(PARSERS);
values that do not fit together are a RunError afterwards (`wish`). Both end in exit code 125.
"""

from __future__ import annotations

from skiff.cli import run_mounts, run_ports, run_values
from skiff.cli.run_values import Surroundings, environment, labels, opening, pairs
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skiff.cli.flags import Parsed

PARSERS: dict[str, Callable[[str], Any]] = {
    "decimal": run_values.parse_cpus,
    "ulimit": run_values.parse_ulimit,
    "mount": run_mounts.mount,
    "network": run_ports.network,
    "--memory-swap": run_values.parse_swap,
    "--attach": run_values.parse_stream,
    "--env": run_values.parse_env,
    "--add-host": run_values.parse_host,
    "--dns": run_values.parse_ip,
    "--dns-search": run_values.parse_domain,
    "--link": run_values.parse_link,
    "--sysctl": run_values.parse_sysctl,
    "--device-read-bps": run_values.parse_throttle_bytes,
    "--device-write-bps": run_values.parse_throttle_bytes,
    "--device-read-iops": run_values.parse_throttle,
    "--device-write-iops": run_values.parse_throttle,
    "--blkio-weight-device": run_values.parse_weight,
    "--device-cgroup-rule": run_values.parse_device_rule,
}


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
    log = pairs(flags["log-opt"])
    if flags["log-driver"] == "none" and log:
        raise ValueError("invalid logging opts for driver none")
    storage = pairs(flags["storage-opt"], need_value="invalid storage option")
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
        ("Sysctls", pairs(flags["sysctl"])),
        ("Annotations", pairs(flags["annotation"])),
        ("StorageOpt", storage),
        ("Runtime", flags["runtime"]),
        ("Egress", flags["egress"]),
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
    """No | always | unless-stopped | on-failure[:retries]."""
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
                    f"opening seccomp profile ({value}) failed: {opening(value, error)}"
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
