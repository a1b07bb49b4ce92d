"""HostConfig's limits: are they possible here, and what are they as OCI resources? Pure."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import replace

from skiff.docker import ulimits
from skiff.docker.container import Resources, Ulimit
from skiff.errors import InvalidParameter
from skiff.oci import runtime as oci

R = TypeVar("R", bound=Resources)
LEAST_MEMORY = 6 << 20  # bytes; Docker refuses less
MOST_PROCESSORS = 8192  # NR_CPUS of the largest kernels
MILLISECOND_US = 1000
SECOND_US = 1_000_000
PERIOD_US = 100_000


class Machine(Struct, frozen=True):
    """What limits are measured against. cpus, memory_nodes: `0-3`. controllers: those that work.

    ulimits: the most that may be given, by name; what is not named has no bound.
    """

    cpus: str = "0"
    cpu_count: int = 1
    memory_nodes: str = "0"
    controllers: frozenset[str] = frozenset({"memory", "cpu", "cpuset", "pids", "blkio"})
    swap_limit: bool = True
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    unified: bool = True  # cgroup v2
    ulimits: dict[str, int] = {}


def check(wish: Resources, machine: Machine, *, updating: bool = False) -> list[str]:
    """Warnings for what this machine cannot do. InvalidParameter in Docker's words."""
    warnings: list[str] = []
    _check_memory(wish, machine, warnings, updating=updating)
    _check_cpu(wish, machine)
    _check_cpuset("CPUs", "cpus", wish.cpuset_cpus, machine.cpus)
    _check_cpuset("memory nodes", "mems", wish.cpuset_mems, machine.memory_nodes)
    if wish.blkio_weight:
        if not machine.blkio_weight:
            warnings.append(
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. "
                "Weight discarded."
            )
        elif not 10 <= wish.blkio_weight <= 1000:
            raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if wish.blkio_weight_device and not machine.blkio_weight_device:
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
            "Weight-device discarded."
        )
    if wish.pids_limit and wish.pids_limit > 0 and "pids" not in machine.controllers:
        warnings.append(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. "
            "PIDs limit discarded."
        )
    if wish.kernel_memory:
        warnings.append("Specifying a kernel memory limit is deprecated and has no effect.")
    warnings += _out_of_reach(wish.ulimits or (), machine.ulimits)
    if wish.cpu_count or wish.cpu_percent or wish.io_maximum_iops or wish.io_maximum_bandwidth:
        raise InvalidParameter("invalid option: CpuCount, CpuPercent and IOMaximum… exist only on Windows")
    return warnings


def possible(wish: R, machine: Machine) -> R:
    """The wish without what `check` discards."""
    if wish.kernel_memory:
        wish = replace(wish, kernel_memory=UNSET)
    if wish.blkio_weight and not machine.blkio_weight:
        wish = replace(wish, blkio_weight=0)
    if wish.blkio_weight_device and not machine.blkio_weight_device:
        wish = replace(wish, blkio_weight_device=())
    return wish


def _out_of_reach(asked: Sequence[Ulimit], most: dict[str, int]) -> Iterator[str]:
    for limit in asked:
        bound = most.get(limit.name)
        if bound is not None and (limit.hard == -1 or limit.hard > bound):
            soft = bound if limit.soft == -1 else min(limit.soft, bound)
            yield (
                f"Ulimit {limit.name}={limit.soft}:{limit.hard} is more than this engine may give without "
                f"CAP_SYS_RESOURCE. {soft}:{bound} is set."
            )


def _check_memory(wish: Resources, machine: Machine, warnings: list[str], *, updating: bool) -> None:
    memory, swap, reservation = wish.memory, wish.memory_swap, wish.memory_reservation
    if memory and memory < LEAST_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory > 0 and swap > 0 and swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not memory and swap > 0 and not updating:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if reservation and reservation < LEAST_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if memory and memory < reservation:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    swappiness = wish.memory_swappiness
    if swappiness is not None and swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if memory and "memory" not in machine.controllers:
        warnings.append(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. "
            "Limitation discarded."
        )
    elif memory > 0 and swap != -1 and not machine.swap_limit:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
    if wish.oom_kill_disable:
        if machine.unified:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        elif not memory:
            warnings.append(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in "
                "the system running out of resources."
            )


def _check_cpu(wish: Resources, machine: Machine) -> None:
    if wish.nano_cpus:
        if wish.cpu_period:
            raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
        if wish.cpu_quota:
            raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
        if not 10_000_000 <= wish.nano_cpus <= machine.cpu_count * 1_000_000_000:
            raise InvalidParameter(
                f"range of CPUs is from 0.01 to {machine.cpu_count}.00, "
                f"as there are only {machine.cpu_count} CPUs available"
            )
    if wish.cpu_period and not MILLISECOND_US <= wish.cpu_period <= SECOND_US:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < wish.cpu_quota < MILLISECOND_US:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if wish.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({wish.cpu_shares}): value must be a positive integer")


def _check_cpuset(what: str, short: str, wanted: str, available: str) -> None:
    if not wanted:
        return
    try:
        asked = number_list(wanted)
    except ValueError:
        raise InvalidParameter(
            f"Invalid value {wanted} for cpuset {short}: invalid format: {wanted}"
        ) from None
    if max(asked, default=0) > MOST_PROCESSORS:
        raise InvalidParameter(
            f"Invalid value {wanted} for cpuset {short}: value of out range, maximum is {MOST_PROCESSORS}"
        )
    if not asked <= number_list(available):
        raise InvalidParameter(
            f"Requested {what} are not available - requested {wanted}, available: {available}"
        )


def number_list(text: str) -> frozenset[int]:
    """The numbers of `0-3,7`. ValueError. cpuset(7) § List format."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isascii() or not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(text)
        low, high = int(first), int(last or first)
        if high < low or high > 1 << 16:
            raise ValueError(text)
        numbers.update(range(low, high + 1))
    return frozenset(numbers)


def resources(
    wish: Resources,
    machine: Machine,
    rules: Sequence[oci.DeviceRule] = (),
    *,
    block_io: oci.BlockIO | None = None,
) -> oci.Resources:
    """The wish as OCI resources. What `check` discarded with a warning is left out.

    block_io: the limits that name devices, by number.
    """
    return oci.Resources(
        devices=tuple(rules),
        memory=_memory(wish, machine),
        cpu=_cpu(wish),
        pids=_pids(wish),
        block_io=_block_io(wish, machine, block_io),
    )


def _memory(wish: Resources, machine: Machine) -> oci.MemoryLimits | None:
    swap: int | None = wish.memory_swap or None
    if swap is None and wish.memory > 0:
        swap = wish.memory * 2  # Docker: as much swap again as memory, unless told otherwise
    if not machine.swap_limit:
        swap = None
    limits = oci.MemoryLimits(
        limit=wish.memory or None,
        reservation=wish.memory_reservation or None,
        swap=swap,
        kernel_tcp=wish.kernel_memory_tcp or None,
        swappiness=None
        if wish.memory_swappiness in (None, -1) or machine.unified
        else wish.memory_swappiness,
        disable_oom_killer=bool(wish.oom_kill_disable) and not machine.unified,
    )
    return None if limits == oci.MemoryLimits() else limits


def _cpu(wish: Resources) -> oci.CPULimits | None:
    quota, period = wish.cpu_quota or None, wish.cpu_period or None
    if wish.nano_cpus:
        quota, period = wish.nano_cpus * PERIOD_US // 1_000_000_000, PERIOD_US
    limits = oci.CPULimits(
        shares=wish.cpu_shares or None,
        quota=quota,
        period=period,
        realtime_runtime=wish.cpu_realtime_runtime or None,
        realtime_period=wish.cpu_realtime_period or None,
        cpus=wish.cpuset_cpus,
        mems=wish.cpuset_mems,
    )
    return None if limits == oci.CPULimits() else limits


def _pids(wish: Resources) -> oci.PidsLimits | None:
    limit = wish.pids_limit
    if limit is None or limit == 0:
        return None
    return oci.PidsLimits(limit=max(limit, -1))


def _block_io(wish: Resources, machine: Machine, devices: oci.BlockIO | None) -> oci.BlockIO | None:
    weight = wish.blkio_weight if machine.blkio_weight else 0
    if not weight:
        return devices
    return replace(devices or oci.BlockIO(), weight=weight)


def rlimits(asked: Sequence[oci.Rlimit], defaults: Sequence[oci.Rlimit]) -> tuple[oci.Rlimit, ...]:
    """The container's own limits over the engine's."""
    named = {limit.type: limit for limit in defaults}
    named.update({limit.type: limit for limit in asked})
    return tuple(named.values())


def rlimit(name: str, soft: int, hard: int) -> oci.Rlimit:
    """One ulimit as the OCI spec names it. InvalidParameter."""
    if name not in ulimits.NAMES:
        raise InvalidParameter(f"wrong rlimit value: RLIMIT_{name.upper()}")
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return oci.Rlimit(type=f"RLIMIT_{name.upper()}", soft=soft, hard=hard)
