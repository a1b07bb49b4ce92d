"""Facts about this host and this engine, as GET /info and GET /version tell them.

What cannot change while the engine runs is gathered once; the rest is read at each question, cheaply.
"""

import asyncio
import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from skiff import __version__
from skiff.engine.registry.proxies import Proxies, checked, from_environment, masked
from skiff.engine.settings import Settings
from skiff.linux import cgroups
from skiff.oci.platform import of_machine
from skiff.paths import DataPaths

INDEX: Final = "https://index.docker.io/v1/"
CONTROLLERS: Final = ("memory", "cpu", "cpuset", "pids", "blkio", "io")


class Counts(Struct, frozen=True, kw_only=True):
    """How much there is at the moment."""

    running: int = 0
    paused: int = 0
    stopped: int = 0
    images: int = 0
    listeners: int = 0


class Host(Struct, frozen=True, kw_only=True):
    """What is true until the next boot. memory: bytes."""

    kernel: str
    system: str
    system_version: str
    machine: str
    architecture: str
    cpus: int
    memory: int
    cgroup_version: int
    controllers: frozenset[str]
    apparmor: bool
    seccomp: bool


class Info:
    """Answers /info and /version. counts: asked at each question."""

    def __init__(
        self,
        *,
        engine_id: str,
        host: Host,
        settings: Callable[[], Settings],
        driver: str,
        driver_status: list[list[str]],
        api_versions: tuple[str, str],
        counts: Callable[[], Counts],
    ) -> None:
        self._host = host
        self._settings = settings
        self._counts = counts
        self._engine_id = engine_id
        self._driver = driver
        self._driver_status = driver_status
        self._described: tuple[Settings, dict[str, Any]] | None = None
        self.version: Final = version(host, *api_versions)

    def info(self) -> dict[str, Any]:
        """Engine API, SystemInfo."""
        settings = self._settings()
        if self._described is None or self._described[0] is not settings:
            self._described = (settings, self._fixed(settings))
        counts = self._counts()
        return self._described[1] | {
            "Containers": counts.running + counts.paused + counts.stopped,
            "ContainersRunning": counts.running,
            "ContainersPaused": counts.paused,
            "ContainersStopped": counts.stopped,
            "Images": counts.images,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": len(asyncio.all_tasks()),
            "NEventsListener": counts.listeners,
            "SystemTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "Name": socket.gethostname(),
        }

    def _fixed(self, settings: Settings) -> dict[str, Any]:
        host = self._host
        v1 = host.cgroup_version == 1
        used = proxies(settings)
        return {
            "ID": self._engine_id,
            "Containers": 0,
            "ContainersRunning": 0,
            "ContainersPaused": 0,
            "ContainersStopped": 0,
            "Images": 0,
            "Driver": self._driver,
            "DriverStatus": self._driver_status,
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
                "Authorization": None,
                "Log": ["json-file", "local", "none"],
            },
            "MemoryLimit": "memory" in host.controllers,
            "SwapLimit": "memory" in host.controllers,
            "KernelMemoryTCP": v1 and "memory" in host.controllers,
            "CpuCfsPeriod": "cpu" in host.controllers,
            "CpuCfsQuota": "cpu" in host.controllers,
            "CPUShares": "cpu" in host.controllers,
            "CPUSet": "cpuset" in host.controllers,
            "PidsLimit": "pids" in host.controllers,
            "IPv4Forwarding": _switch("/proc/sys/net/ipv4/ip_forward"),
            "Debug": settings.debug,
            "NFd": 0,
            "OomKillDisable": v1 and "memory" in host.controllers,
            "NGoroutines": 0,
            "SystemTime": "",
            "LoggingDriver": settings.log_driver,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": str(host.cgroup_version),
            "NEventsListener": 0,
            "KernelVersion": host.kernel,
            "OperatingSystem": host.system,
            "OSVersion": host.system_version,
            "OSType": "linux",
            "Architecture": host.machine,
            "IndexServerAddress": INDEX,
            "RegistryConfig": _registries(settings),
            "NCPU": host.cpus,
            "MemTotal": host.memory,
            "GenericResources": None,
            "DockerRootDir": settings.data_root,
            "HttpProxy": masked(used.http),
            "HttpsProxy": masked(used.https),
            "NoProxy": used.no_proxy,
            "Name": "",
            "Labels": list(settings.labels),
            "ExperimentalBuild": False,
            "ServerVersion": __version__,
            "Runtimes": _runtimes(settings),
            "DefaultRuntime": settings.default_runtime,
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "skiff-init",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": _security(host),
            "FirewallBackend": {"Driver": "nftables"},
            "CDISpecDirs": [],
            "Warnings": None,
        }


def version(host: Host, api: str, oldest_api: str) -> dict[str, Any]:
    """Engine API, SystemVersion."""
    return {
        "Platform": {"Name": "skiff"},
        "Components": [
            {
                "Name": "Engine",
                "Version": __version__,
                "Details": {
                    "ApiVersion": api,
                    "Arch": host.architecture,
                    "BuildTime": "",
                    "Experimental": "false",
                    "GitCommit": "",
                    "GoVersion": "",
                    "KernelVersion": host.kernel,
                    "MinAPIVersion": oldest_api,
                    "Os": "linux",
                },
            },
            {
                "Name": "python",
                "Version": platform.python_version(),
                "Details": {"Implementation": sys.implementation.name},
            },
        ],
        "Version": __version__,
        "ApiVersion": api,
        "MinAPIVersion": oldest_api,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": host.architecture,
        "KernelVersion": host.kernel,
        "BuildTime": "",
    }


def host() -> Host:
    """Look at the machine."""
    kernel = os.uname()
    release = platform.freedesktop_os_release() if os.path.exists("/etc/os-release") else {}
    here = cgroups.layout()
    return Host(
        kernel=kernel.release,
        system=release.get("PRETTY_NAME", "linux"),
        system_version=release.get("VERSION_ID", ""),
        machine=kernel.machine,
        architecture=of_machine(kernel.machine).architecture,
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version=here.version,
        controllers=here.controllers,
        apparmor=_text("/sys/module/apparmor/parameters/enabled") == "Y",
        seccomp=os.path.exists("/proc/sys/kernel/seccomp"),
    )


def engine_id(data: DataPaths) -> str:
    """The id of this engine, made at its first start."""
    path = str(data.engine_id)
    known = _text(path)
    if known:
        return known
    fresh = str(uuid.uuid4())
    with open(path, "w") as file:
        file.write(fresh + "\n")
    return fresh


def filesystem(path: str) -> str:
    """The type of the file system that a path lies on, `ext4`; empty when it cannot be told."""
    wanted = os.stat(path).st_dev
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            major, _, minor = fields.split(" ", 3)[2].partition(":")
            if os.makedev(int(major), int(minor)) == wanted:
                return rest.split(" ", 1)[0]
    return ""


def _security(host: Host) -> list[str]:
    options = ["name=seccomp,profile=builtin"] if host.seccomp else []
    if host.cgroup_version == 2:
        options.append("name=cgroupns")
    return options


def _runtimes(settings: Settings) -> Mapping[str, Any]:
    ours = {"skiff": {"path": "skiff"}}
    return ours | {name: {"path": runtime.path} for name, runtime in settings.runtimes.items()}


def proxies(settings: Settings) -> Proxies:
    """What the settings say, else the environment of the engine. InvalidParameter."""
    usual = from_environment(os.environ)
    return Proxies(
        checked(settings.http_proxy) if settings.http_proxy else usual.http,
        checked(settings.https_proxy) if settings.https_proxy else usual.https,
        settings.no_proxy or usual.no_proxy,
    )


def _registries(settings: Settings) -> dict[str, Any]:
    mirrors = [mirror.rstrip("/") + "/" for mirror in settings.registry_mirrors]
    networks = [entry for entry in settings.insecure_registries if "/" in entry]
    mirrors += [mirror.rstrip("/") + "/" for mirror in settings.mirrors.get("docker.io", ())]
    configs = {"docker.io": {"Mirrors": mirrors, "Name": "docker.io", "Official": True, "Secure": True}}
    for name in settings.insecure_registries:
        if "/" not in name:
            configs[name] = {"Mirrors": [], "Name": name, "Official": False, "Secure": False}
    return {
        "IndexConfigs": configs,
        "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128", *networks],
        "Mirrors": mirrors or None,
    }


def _switch(path: str) -> bool:
    return _text(path) == "1"


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
