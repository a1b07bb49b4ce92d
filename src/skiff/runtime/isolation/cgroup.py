"""Resources of a runtime spec → what to write into control groups, version 1 and 2. Pure.

The order of the writes matters and is kept. Which controller is where is asked from the caller; a limit whose
controller is nowhere still yields a write, and cgroups.Group.apply refuses it by name.
"""

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from skiff.errors import InvalidParameter
from skiff.oci.runtime import BlockIO, CPULimits, MemoryLimits, Resources, ThrottleDevice
from skiff.runtime.isolation import devices

Write = tuple[str, str, str]  # controller (or "unified"), file, value

UNLIMITED: Final = -1
DEFAULT_PERIOD: Final = 100_000


class Plan(NamedTuple):
    """writes: for cgroups.Group.apply. device_program: for cgroups.Group.restrict_devices, or None."""

    writes: tuple[Write, ...]
    device_program: bytes | None = None


class MemoryNow(NamedTuple):
    """The limits of a group that runs already: memory, and memory plus swap; UNLIMITED for none."""

    limit: int = UNLIMITED
    swap: int = UNLIMITED


NO_LIMITS: Final = MemoryNow()


def plan(
    resources: Resources,
    *,
    v1: Collection[str],
    v2: Collection[str] | None = None,
    now: MemoryNow = NO_LIMITS,
) -> Plan:
    """What to write where, given the controllers of each version (cgroups.Layout.v1 and .v2_controllers).

    v2: None when cgroup2 is not mounted. now: matters for v1 when limits of a running container change.
    InvalidParameter for a value that cannot be expressed.
    """
    ours = frozenset(v2 or ())

    def on_v2(controller: str) -> bool:
        return controller not in v1 and (controller in ours or not v1)

    writes: list[Write] = []
    program: bytes | None = None
    rules = devices.with_standard(resources.devices)
    if rules and "devices" in v1:
        writes.extend(("devices", name, line) for name, line in devices.lines(rules))
    elif rules and v2 is not None:
        program = devices.program(rules)
    elif rules:
        raise InvalidParameter("cannot restrict devices: the devices controller is not available here")
    if resources.cpu:
        writes += _cpuset(resources.cpu)
        writes += _cpu_v2(resources.cpu) if on_v2("cpu") else _cpu_v1(resources.cpu)
    if resources.memory:
        writes += _memory_v2(resources.memory) if on_v2("memory") else _memory_v1(resources.memory, now)
    if resources.pids:
        limit = resources.pids.limit
        writes.append(("pids", "pids.max", str(limit) if limit > 0 else "max"))
    if resources.block_io:
        writes += (
            _io_v2(resources.block_io) if on_v2("io") and "blkio" not in v1 else _io_v1(resources.block_io)
        )
    for page in resources.hugepage_limits:
        name = "max" if on_v2("hugetlb") else "limit_in_bytes"
        writes.append(("hugetlb", f"hugetlb.{page.page_size}.{name}", str(page.limit)))
    writes += _rdma(resources)
    writes += _network(resources)
    writes += _unified(resources, mounted=v2 is not None)
    return Plan(tuple(writes), program)


def _cpuset(cpu: CPULimits) -> Iterator[Write]:
    if cpu.cpus:
        yield "cpuset", "cpuset.cpus", cpu.cpus
    if cpu.mems:
        yield "cpuset", "cpuset.mems", cpu.mems


def _cpu_v1(cpu: CPULimits) -> Iterator[Write]:
    if cpu.shares:
        yield "cpu", "cpu.shares", str(cpu.shares)
    if cpu.idle is not None:
        yield "cpu", "cpu.idle", str(cpu.idle)
    if cpu.period:
        yield "cpu", "cpu.cfs_period_us", str(cpu.period)
    if cpu.quota:
        yield "cpu", "cpu.cfs_quota_us", str(cpu.quota)
    if cpu.burst is not None:
        yield "cpu", "cpu.cfs_burst_us", str(cpu.burst)
    if cpu.realtime_period:
        yield "cpu", "cpu.rt_period_us", str(cpu.realtime_period)
    if cpu.realtime_runtime:
        yield "cpu", "cpu.rt_runtime_us", str(cpu.realtime_runtime)


def _cpu_v2(cpu: CPULimits) -> Iterator[Write]:
    if cpu.realtime_runtime or cpu.realtime_period:
        raise InvalidParameter("real-time CPU limits are not available with cgroup v2")
    if cpu.shares:
        yield "cpu", "cpu.weight", str(weight_from_shares(cpu.shares))
    if cpu.idle is not None:
        yield "cpu", "cpu.idle", str(cpu.idle)
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        yield "cpu", "cpu.max", f"{quota} {cpu.period or DEFAULT_PERIOD}"
    if cpu.burst is not None:
        yield "cpu", "cpu.max.burst", str(cpu.burst)


def weight_from_shares(shares: int) -> int:
    """v1 shares 2–262144 onto v2 weight 1–10000, linearly; both ends meet."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _memory_v1(memory: MemoryLimits, now: MemoryNow) -> Iterator[Write]:
    limit = [("memory", "memory.limit_in_bytes", str(memory.limit))] if memory.limit else []
    swap = [("memory", "memory.memsw.limit_in_bytes", str(memory.swap))] if memory.swap else []
    # memory may never exceed memory+swap: whoever raises both has to raise the latter first.
    raises_beyond = now.swap != UNLIMITED and _height(memory.limit) > now.swap
    yield from [*swap, *limit] if raises_beyond else [*limit, *swap]
    if memory.reservation:
        yield "memory", "memory.soft_limit_in_bytes", str(memory.reservation)
    if memory.kernel:
        yield "memory", "memory.kmem.limit_in_bytes", str(memory.kernel)
    if memory.kernel_tcp:
        yield "memory", "memory.kmem.tcp.limit_in_bytes", str(memory.kernel_tcp)
    if memory.swappiness is not None:
        if not 0 <= memory.swappiness <= 100:
            raise InvalidParameter(f"invalid memory swappiness {memory.swappiness}: expected 0–100")
        yield "memory", "memory.swappiness", str(memory.swappiness)
    if memory.disable_oom_killer:
        yield "memory", "memory.oom_control", "1"


def _height(limit: int | None) -> float:
    return float("inf") if limit is not None and limit < 0 else float(limit or 0)


def _memory_v2(memory: MemoryLimits) -> Iterator[Write]:
    if memory.swappiness is not None:
        raise InvalidParameter("memory swappiness is not available with cgroup v2")
    if memory.disable_oom_killer:
        raise InvalidParameter("the OOM killer cannot be disabled with cgroup v2")
    if memory.kernel or memory.kernel_tcp:
        raise InvalidParameter("kernel memory limits are not available with cgroup v2")
    # The v2 kernel takes a limit below the usage and reclaims or kills: so the swap limit comes first.
    if memory.swap:
        yield "memory", "memory.swap.max", _swap_alone(memory)
    if memory.limit:
        yield "memory", "memory.max", str(memory.limit) if memory.limit > 0 else "max"
    if memory.reservation:
        yield "memory", "memory.low", str(memory.reservation) if memory.reservation > 0 else "max"


def _swap_alone(memory: MemoryLimits) -> str:
    if memory.swap is None or memory.swap < 0:
        return "max"
    if not memory.limit or memory.limit < 0:
        raise InvalidParameter("a swap limit needs a memory limit: it is given as memory plus swap")
    if memory.swap < memory.limit:
        raise InvalidParameter("memory plus swap must not be less than memory")
    return str(memory.swap - memory.limit)


_THROTTLES: Final = (
    ("throttle_read_bps_device", "blkio.throttle.read_bps_device", "rbps"),
    ("throttle_write_bps_device", "blkio.throttle.write_bps_device", "wbps"),
    ("throttle_read_iops_device", "blkio.throttle.read_iops_device", "riops"),
    ("throttle_write_iops_device", "blkio.throttle.write_iops_device", "wiops"),
)


def _throttles(io: BlockIO) -> Iterator[tuple[ThrottleDevice, str, str]]:
    for attribute, name, word in _THROTTLES:
        for device in getattr(io, attribute):
            yield device, name, word


def _io_v1(io: BlockIO) -> Iterator[Write]:
    _refuse_leaf_weights(io)
    # The weight files of CFQ (blkio.weight) went with it in Linux 5.0; BFQ has its own.
    if io.weight:
        yield "blkio", "blkio.bfq.weight", str(io.weight)
    for weighted in io.weight_device:
        if weighted.weight:
            value = f"{weighted.major}:{weighted.minor} {weighted.weight}"
            yield "blkio", "blkio.bfq.weight_device", value
    for device, name, _ in _throttles(io):
        yield "blkio", name, f"{device.major}:{device.minor} {device.rate}"


def _io_v2(io: BlockIO) -> Iterator[Write]:
    _refuse_leaf_weights(io)
    if io.weight:
        yield "io", "io.weight", f"default {io_weight(io.weight)}"
    for weighted in io.weight_device:
        if weighted.weight:
            yield "io", "io.weight", f"{weighted.major}:{weighted.minor} {io_weight(weighted.weight)}"
    for device, _, word in _throttles(io):
        yield "io", "io.max", f"{device.major}:{device.minor} {word}={device.rate or 'max'}"


def io_weight(weight: int) -> int:
    """v1 block I/O weight 10–1000 onto v2 io.weight 1–10000, linearly; both ends meet."""
    return 1 + (min(max(weight, 10), 1000) - 10) * 9999 // 990


def _refuse_leaf_weights(io: BlockIO) -> None:
    if io.leaf_weight or any(device.leaf_weight for device in io.weight_device):
        raise InvalidParameter("leafWeight is not available: kernels have none since Linux 5.0")


def _rdma(resources: Resources) -> Iterator[Write]:
    for device, limits in (resources.rdma or {}).items():
        words = {"hcaHandles": "hca_handle", "hcaObjects": "hca_object"}
        values = " ".join(f"{words[key]}={value}" for key, value in limits.items() if key in words)
        yield "rdma", "rdma.max", f"{device} {values}"


def _network(resources: Resources) -> Iterator[Write]:
    network = resources.network or {}
    if network.get("classID"):
        yield "net_cls", "net_cls.classid", str(network["classID"])
    for priority in network.get("priorities") or ():
        yield "net_prio", "net_prio.ifpriomap", f"{priority['name']} {priority['priority']}"


def _unified(resources: Resources, *, mounted: bool) -> Iterator[Write]:
    for name, value in sorted(resources.unified.items()):
        if not mounted:
            raise InvalidParameter(f"cannot set {name}: cgroup2 is not mounted")
        if "/" in name or name in ("", ".", ".."):
            raise InvalidParameter(f"invalid cgroup file {name!r}: expected a plain name")
        yield "unified", name, value
