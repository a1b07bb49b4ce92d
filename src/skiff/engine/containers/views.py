"""Records as the Engine API shows them: inspect, and the list with its filters.

What does not change with time is encoded once per record and kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from skiff.docker import human, units
from skiff.docker.container import HostConfig
from skiff.docker.container_view import (
    NEVER,
    ContainerInspect,
    ContainerState,
    ContainerSummary,
    SummaryHostConfig,
    SummaryNetworkSettings,
)
from skiff.docker.filters import Filters
from skiff.docker.image import GraphDriverData
from skiff.docker.network import EndpointSettings
from skiff.engine.containers.ground import written
from skiff.engine.containers.networking import Sandboxes
from skiff.engine.containers.record import Container, Records
from skiff.engine.execution import defaults
from skiff.engine.networks.links import shown as shown_link
from skiff.engine.storage.snapshots import SnapshotKey, Snapshotter
from skiff.errors import InvalidParameter, NotFound
from skiff.paths import DataPaths

LIST_FILTERS = (
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
)
HEALTH = ("none", "starting", "healthy", "unhealthy")
STATUSES = ("created", "dead", "exited", "paused", "removing", "restarting", "running")

Ancestors = Callable[[str], set[str]]
"""The ids of an image, found by name, and of those built upon it; empty when there is none."""


class _Encoded(Struct, frozen=True):
    """A summary as bytes. record: whose it is, by identity; status: the text that time changes.

    network: the sandboxes' mark.
    """

    record: Container
    status: str
    network: object
    data: Raw


class Views:
    def __init__(
        self,
        *,
        records: Records,
        sandboxes: Sandboxes,
        snapshots: Snapshotter,
        data: DataPaths,
        execs_of: Callable[[str], tuple[str, ...]],
        ancestors: Ancestors,
    ) -> None:
        self.records = records
        self.sandboxes = sandboxes
        self.snapshots = snapshots
        self.data = data
        self.execs_of = execs_of
        self.ancestors = ancestors
        self._encoded: dict[str, _Encoded] = {}
        self._encode = msgspec.json.Encoder().encode

    async def inspect(self, text: str, *, size: bool = False) -> ContainerInspect:
        """NotFound. size: count the bytes too (slow)."""
        container = self.records.find(text)
        directory = self.data.container(container.id)
        started = container.was_started or container.state.started_at != NEVER or bool(container.state.error)
        logged = container.host.log_config.type == "json-file"
        sizes: tuple[int | UnsetType, int | UnsetType] = (UNSET, UNSET)
        if size:
            sizes = await asyncio.to_thread(self._sizes, container)
        return ContainerInspect(
            id=container.id,
            created=units.rfc3339(container.created_ns),
            path=container.path,
            args=container.args,
            state=container.state,
            image=container.image,
            resolv_conf_path=f"{directory}/resolv.conf" if started else "",
            hostname_path=f"{directory}/hostname" if started else "",
            hosts_path=f"{directory}/hosts" if started else "",
            log_path=str(self.data.log(container.id)) if started and logged else "",
            name="/" + container.name,
            restart_count=container.restarts,
            driver=container.driver,
            platform=container.platform,
            exec_ids=self.execs_of(container.id) or None,
            host_config=self._host(container),
            graph_driver=self._graph(container),
            size_rw=sizes[0],
            size_root_fs=sizes[1],
            mounts=tuple(plan.point() for plan in container.mounts if not plan.hidden),
            config=container.config,
            network_settings=replace(self.sandboxes.settings(container), networks=self._endpoints(container)),
        )

    def _endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        """Which network a name means is shown once it has been looked up for a start."""
        found = self.sandboxes.endpoints(container)
        if container.was_started:
            return found
        return {name: replace(endpoint, network_id="") for name, endpoint in found.items()}

    def _host(self, container: Container) -> HostConfig:
        host = container.host
        if host.links:
            host = replace(host, links=tuple(shown_link(container.name, text) for text in host.links))
        if host.privileged:
            return host
        return replace(
            host,
            masked_paths=defaults.MASKED_PATHS if host.masked_paths is None else host.masked_paths,
            readonly_paths=defaults.READONLY_PATHS if host.readonly_paths is None else host.readonly_paths,
        )

    def _graph(self, container: Container) -> GraphDriverData:
        key = SnapshotKey(container.id)
        try:
            own, lowers = self.snapshots.directory(key), self.snapshots.lowers(key)
        except NotFound:
            return GraphDriverData(name=container.driver)
        data = {"UpperDir": own}
        if lowers:
            data["LowerDir"] = ":".join(lowers)
        return GraphDriverData(data=data, name=container.driver)

    def _sizes(self, container: Container) -> tuple[int, int]:
        """(written by it, all of it) in bytes."""
        key = SnapshotKey(container.id)
        own = total = written(self.snapshots, container.id)
        parent = self.snapshots.info(key).parent
        while parent is not None:
            total += self.snapshots.usage(parent).bytes
            parent = self.snapshots.info(parent).parent
        return own, total

    async def list(
        self, filters: Filters, *, all: bool = False, limit: int = 0, size: bool = False
    ) -> list[Raw]:
        """Encoded ContainerSummary objects, newest first. filters: parsed with LIST_FILTERS."""
        selected = self._selected(filters, all=all or limit > 0)
        if limit > 0:
            selected = selected[:limit]
        now = time.time_ns()
        if not size:
            return [self._row(container, now) for container in selected]
        rows = []
        for container in selected:
            own, total = await asyncio.to_thread(self._sizes, container)
            summary = replace(self._summary(container, now), size_rw=own or UNSET, size_root_fs=total)
            rows.append(Raw(self._encode(summary)))
        return rows

    def _row(self, container: Container, now: int) -> Raw:
        status = status_text(container.state, now)
        network = self.sandboxes.mark(container)
        kept = self._encoded.get(container.id)
        if (
            kept is not None
            and kept.record is container
            and kept.status == status
            and kept.network == network
        ):
            return kept.data
        data = Raw(self._encode(self._summary(container, now)))
        if len(self._encoded) > 2 * len(self.records) + 16:
            self._encoded.clear()  # most are of containers that are gone
        self._encoded[container.id] = _Encoded(container, status, network, data)
        return data

    def _summary(self, container: Container, now: int) -> ContainerSummary:
        return ContainerSummary(
            id=container.id,
            names=("/" + container.name, *self.sandboxes.names(container)),
            image=container.config.image,
            image_id=container.image,
            command=command_text(container),
            created=container.created_ns // units.SECOND,
            ports=self.sandboxes.ports(container),
            labels=container.config.labels or {},
            state=container.state.status,
            status=status_text(container.state, now),
            host_config=SummaryHostConfig(
                network_mode=container.host.network_mode, annotations=container.host.annotations or UNSET
            ),
            network_settings=SummaryNetworkSettings(networks=self._endpoints(container)),
            mounts=tuple(plan.point() for plan in container.mounts if not plan.hidden),
        )

    def _selected(self, filters: Filters, *, all: bool) -> Sequence[Container]:
        wanted = _statuses(filters)
        before = self._created(filters.values("before"), min)
        since = self._created(filters.values("since"), max)
        images = self._images(filters.values("ancestor"))
        everything = all or bool(wanted)
        exits = _exit_codes(filters.values("exited"))
        found = []
        for container in self.records:
            state = container.state
            if not everything and not state.running:
                continue
            if wanted and state.status not in wanted:
                continue
            if exits and (state.running or state.started_at == NEVER or state.exit_code not in exits):
                continue
            if before is not None and container.created_ns >= before:
                continue
            if since is not None and container.created_ns <= since:
                continue
            if images is not None and container.image not in images:
                continue
            if filters.fields and not self._matches(container, filters):
                continue
            found.append(container)
        found.sort(key=lambda container: container.created_ns, reverse=True)
        return found

    def _matches(self, container: Container, filters: Filters) -> bool:
        name = "/" + container.name
        health = container.state.health.status if container.state.health else "none"
        return (
            (filters.matches("name", name) or filters.matches("name", container.name))
            and filters.starts("id", container.id)
            and filters.labels(container.config.labels)
            and filters.exact("health", health)
            and not filters.boolean("is-task", False)
            and self._on_network(container, filters.values("network"))
            and _has_volume(container, filters.values("volume"))
            and _has_port("expose", container.config.exposed_ports or {}, filters)
            and _has_port("publish", self._public_ports(container, filters), filters)
        )

    def _public_ports(self, container: Container, filters: Filters) -> tuple[str, ...]:
        """The host's ports that lead to it now."""
        if not filters.values("publish"):
            return ()
        ports = self.sandboxes.ports(container)
        return tuple(f"{port.public_port}/{port.type}" for port in ports if port.public_port)

    def _on_network(self, container: Container, wanted: tuple[str, ...]) -> bool:
        if not wanted:
            return True
        endpoints = self.sandboxes.endpoints(container)
        ids = {endpoint.network_id for endpoint in endpoints.values()} - {""}
        return any(value in endpoints or any(id.startswith(value) for id in ids) for value in wanted if value)

    def _created(self, names: tuple[str, ...], pick: Callable[[Iterable[int]], int]) -> int | None:
        return pick([self.records.find(name).created_ns for name in names]) if names else None

    def _images(self, names: tuple[str, ...]) -> set[str] | None:
        if not names:
            return None
        found: set[str] = set()
        for name in names:
            found |= self.ancestors(name)
        return found


def _statuses(filters: Filters) -> tuple[str, ...]:
    wanted = filters.values("status")
    for value in wanted:
        if value not in STATUSES:
            raise InvalidParameter(
                f"invalid filter 'status={value}': invalid value for state ({value}): "
                "must be one of created, running, paused, restarting, removing, exited, dead"
            )
    for value in filters.values("health"):
        if value not in HEALTH:
            raise InvalidParameter(
                f"invalid filter 'health={value}': invalid value for health ({value}): "
                f"must be one of {', '.join(HEALTH)}"
            )
    return wanted


def _exit_codes(values: tuple[str, ...]) -> set[int]:
    for value in values:
        if not value.removeprefix("-").isdecimal():
            raise InvalidParameter(
                f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid syntax"
            )
    return {int(value) for value in values}


def _has_volume(container: Container, wanted: tuple[str, ...]) -> bool:
    return not wanted or any(
        value in (plan.name, plan.source, plan.destination) for plan in container.mounts for value in wanted
    )


def _has_port(name: str, ports: Iterable[str], filters: Filters) -> bool:
    """Values: `80`, `80/udp`, `8000-8080/tcp`."""
    wanted = filters.values(name)
    if not wanted:
        return True
    asked: set[str] = set()
    for value in wanted:
        numbers, _, protocol = value.partition("/")
        first, _, last = numbers.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or int(last or first) > 65535:
            raise InvalidParameter(
                f"error while looking up for {name} {value}: strconv.ParseUint: parsing "
                f'"{value}": invalid syntax'
            )
        asked |= {f"{number}/{protocol or 'tcp'}" for number in range(int(first), int(last or first) + 1)}
    return any((port if "/" in port else f"{port}/tcp") in asked for port in ports)


def command_text(container: Container) -> str:
    """The command as one line; a word with a space in it stands between quotes, which are not escaped."""
    return " ".join((container.path, *(f"'{word}'" if " " in word else word for word in container.args)))


def status_text(state: ContainerState, now: int) -> str:
    """`Up 2 hours (healthy)`, `Exited (0) 5 seconds ago`, `Created`."""
    if state.running:
        if state.restarting:
            return f"Restarting ({state.exit_code}) {_since(state.finished_at, now)} ago"
        up = f"Up {_since(state.started_at, now)}"
        if state.paused:
            return up + " (Paused)"
        if state.health and state.health.status != "none":
            word = "health: starting" if state.health.status == "starting" else state.health.status
            return f"{up} ({word})"
        return up
    if state.status == "removing":
        return "Removal In Progress"
    if state.dead:
        return "Dead"
    if state.started_at == NEVER:
        return "Created"
    if state.finished_at == NEVER:
        return ""
    return f"Exited ({state.exit_code}) {_since(state.finished_at, now)} ago"


def _since(instant: str, now: int) -> str:
    return human.span((now - units.parse_instant(instant)) / units.SECOND)
