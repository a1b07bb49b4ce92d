"""Which objects of the engine's JSON are structs and which are maps: templates tell them apart.

Pure data and one walk. Loaded only when inspect was given --format.
"""

from __future__ import annotations

from skiff.cli.template_values import NOTHING, Map, NilList, NilMap, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# name of a field that holds a map → what a missing key of it gives
MAPS: dict[str, object] = {
    "Annotations": "",
    "AuxiliaryAddresses": "",
    "AuxAddress": "",
    "Containers": None,
    "Data": "",
    "DriverOpts": "",
    "ExposedPorts": NOTHING,
    "Labels": "",
    "Networks": None,
    "Options": "",
    "PortBindings": NOTHING,
    "Ports": NOTHING,
    "Runtimes": NOTHING,
    "Status": None,
    "StorageOpt": "",
    "Sysctls": "",
    "Tmpfs": "",
    "Volumes": None,
}
# name of a field that holds a map of lists → what its lists are called
CONFIGS = {"LogConfig": "LogConfig.Config", "IPAM": "Config"}  # whose Config is which
LISTS = {"Ports": "PortList", "PortBindings": "PortList"}
POINTERS = frozenset(
    (
        "Health",
        "Healthcheck",
        "IPAMConfig",
        "Init",
        "MemorySwappiness",
        "OomKillDisable",
        "PidsLimit",
        "StopTimeout",
        "UsageData",
        "ClusterVolume",
        "RootFS",
        "Manifests",
        "Descriptor",
        "Identity",
        "ImageManifestDescriptor",
    )
)
# what Go names otherwise than the wire
GO_NAMES = {
    "Id": "ID",
    "ApiVersion": "APIVersion",
    "Dns": "DNS",
    "DnsOptions": "DNSOptions",
    "DnsSearch": "DNSSearch",
    "CpuShares": "CPUShares",
    "CpuPeriod": "CPUPeriod",
    "CpuQuota": "CPUQuota",
    "CpuRealtimePeriod": "CPURealtimePeriod",
    "CpuRealtimeRuntime": "CPURealtimeRuntime",
    "CpuCount": "CPUCount",
    "CpuPercent": "CPUPercent",
    "NanoCpus": "NanoCPUs",
}
# fields that the wire leaves out when they are empty, by the field that holds their struct ("" for the top);
# where all fields of a struct stand here, they stand in Go's order
UNSAID: dict[str, dict[str, object]] = {
    "State": {"Health": None},
    "Config": {
        "Healthcheck": None,
        "ArgsEscaped": False,
        "NetworkDisabled": False,
        "MacAddress": "",
        "StopSignal": "",
        "StopTimeout": None,
        "Shell": NilList(),
        "ExposedPorts": NilMap(),
        "OnBuild": NilList(),
        "Entrypoint": NilList(),
        "Volumes": NilMap(),
        "Labels": NilMap(),
    },
    "HostConfig": {
        "Annotations": NilMap(),
        "Mounts": NilList(),
        "Sysctls": NilMap(),
        "Tmpfs": NilMap(),
        "StorageOpt": NilMap(),
        "Init": None,
        "Runtime": "",
        "Isolation": "",
        "VolumesFrom": NilList(),
    },
    "IPAM": {"Options": NilMap(), "Config": NilList()},
    "": {
        "Peers": NilList(),
        "Services": NilMap(),
        "Status": NilMap(),
        "UsageData": None,
        "ClusterVolume": None,
        "SizeRw": None,
        "SizeRootFs": None,
        "Variant": "",
        "OsVersion": "",
    },
    "ImageConfig": {
        "User": "",
        "ExposedPorts": NilMap(),
        "Env": NilList(),
        "Entrypoint": NilList(),
        "Cmd": NilList(),
        "Volumes": NilMap(),
        "WorkingDir": "",
        "Labels": NilMap(),
        "StopSignal": "",
        "ArgsEscaped": False,
        "Healthcheck": None,
        "OnBuild": NilList(),
        "Shell": NilList(),
    },
    "Mounts[]": {
        "Type": "",
        "Name": "",
        "Source": "",
        "Destination": "",
        "Driver": "",
        "Mode": "",
        "RW": False,
        "Propagation": "",
    },
    "Config[]": {"Subnet": "", "IPRange": "", "Gateway": "", "AuxAddress": NilMap()},
}


class GoRecord(Record):
    """A struct of the API: its fields answer to their Go names."""

    def get(self, name: str, default: object = None) -> object:
        if name in self and name not in GO_NAMES:
            return self[name]
        for wire, go_name in GO_NAMES.items():
            if go_name == name and wire in self:
                return self[wire]
        return self.unsaid.get(name, default)

    unsaid: dict[str, object] = {}  # noqa: RUF012

    def shown(self) -> Iterable[tuple[str, object]]:
        named = self.keys() | self.unsaid.keys()
        names = self.unsaid if named == self.unsaid.keys() else (*self, *(self.unsaid.keys() - self.keys()))
        return ((name, self[name] if name in self else self.unsaid[name]) for name in names)

    def encoded(self) -> Iterable[tuple[str, object]]:
        if self.unsaid is not UNSAID["ImageConfig"]:
            return super().encoded()
        return ((name, value) for name, value in self.shown() if value)


def shaped(value: object, name: str = "") -> object:
    """JSON → Records, Maps and lists; name is the field that holds the value."""
    if isinstance(value, dict):
        is_map = name in MAPS or (name == "Config" and _is_driver_config(value)) or name == "LogConfig.Config"
        if is_map:
            zero = MAPS.get(name, "")
            if not zero and any(isinstance(item, str) for item in value.values()):
                zero = ""
            made = Map((key, shaped(item, LISTS.get(name, "[]"))) for key, item in value.items())
            made.zero = zero
            return made
        kind_of_config = CONFIGS.get(name) or ("ImageConfig" if "RootFS" in value else "Config")
        record = GoRecord(
            (key, shaped(item, kind_of_config if key == "Config" else key)) for key, item in value.items()
        )
        record.unsaid = UNSAID.get(name, {})
        return record
    if isinstance(value, list):
        return [shaped(item, f"{name}[]") for item in value]
    if value is None:
        if name in MAPS:
            return NilMap()
        return None if name in POINTERS or name == "[]" else NilList()
    return value


def _is_driver_config(value: dict[str, object]) -> bool:
    """LogConfig.Config: a map of strings, where the container's Config has Env, Cmd, Image, …"""
    return not value


class EventRecord(Record):
    """An event under its Go names; `{{json .}}` has the wire's."""

    kind = "*events.Message"

    def get(self, name: str, default: object = None) -> object:
        wire = EVENT_FIELDS.get(name)
        return super().get(wire[0], wire[1]) if wire else default


EVENT_FIELDS: dict[str, tuple[str, object]] = {
    "Status": ("status", ""),
    "ID": ("id", ""),
    "From": ("from", ""),
    "Type": ("Type", ""),
    "Action": ("Action", ""),
    "Actor": ("Actor", Record(ID="", Attributes=NilMap())),
    "Scope": ("scope", ""),
    "Time": ("time", 0),
    "TimeNano": ("timeNano", 0),
}


def event(message: dict[str, object]) -> EventRecord:
    """Engine API, EventMessage."""
    kept = ("status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano")
    record = EventRecord((name, message[name]) for name in kept if name in message)
    actor = message.get("Actor")
    if isinstance(actor, dict):
        record["Actor"] = Record(ID=actor.get("ID", ""), Attributes=Map(actor.get("Attributes") or {}))
    return record
