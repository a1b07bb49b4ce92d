"""Resources → writes, for v1, v2 and hybrid hosts."""

import pytest

from skiff.errors import InvalidParameter
from skiff.oci.runtime import (
    BlockIO,
    CPULimits,
    DeviceRule,
    HugepageLimit,
    MemoryLimits,
    PidsLimits,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from skiff.runtime.isolation import cgroup
from skiff.runtime.isolation.cgroup import MemoryNow

V1 = frozenset(["cpu", "cpuset", "memory", "devices", "blkio", "pids", "hugetlb"])
V2 = frozenset(["cpu", "cpuset", "memory", "io", "pids", "hugetlb"])


def v1(resources: Resources, now: MemoryNow = cgroup.NO_LIMITS) -> list[tuple[str, str]]:
    return [(name, value) for _, name, value in cgroup.plan(resources, v1=V1, now=now).writes]


def v2(resources: Resources) -> list[tuple[str, str]]:
    return [(name, value) for _, name, value in cgroup.plan(resources, v1=(), v2=V2).writes]


@pytest.mark.parametrize(
    ("resources", "on_v1", "on_v2"),
    [
        (Resources(), [], []),
        (
            Resources(memory=MemoryLimits(limit=100, swap=300, reservation=50)),
            [
                ("memory.limit_in_bytes", "100"),
                ("memory.memsw.limit_in_bytes", "300"),
                ("memory.soft_limit_in_bytes", "50"),
            ],
            [("memory.swap.max", "200"), ("memory.max", "100"), ("memory.low", "50")],
        ),
        (
            Resources(memory=MemoryLimits(limit=-1, swap=-1)),
            [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")],
            [("memory.swap.max", "max"), ("memory.max", "max")],
        ),
        (
            Resources(memory=MemoryLimits(limit=100, swap=100)),
            [("memory.limit_in_bytes", "100"), ("memory.memsw.limit_in_bytes", "100")],
            [("memory.swap.max", "0"), ("memory.max", "100")],
        ),
        (
            Resources(cpu=CPULimits(shares=1024, quota=50000, period=200000, cpus="0-1", mems="0")),
            [
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
                ("cpu.shares", "1024"),
                ("cpu.cfs_period_us", "200000"),
                ("cpu.cfs_quota_us", "50000"),
            ],
            [
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
                ("cpu.weight", "39"),
                ("cpu.max", "50000 200000"),
            ],
        ),
        (Resources(cpu=CPULimits(quota=-1)), [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max 100000")]),
        (Resources(cpu=CPULimits(quota=5000)), [("cpu.cfs_quota_us", "5000")], [("cpu.max", "5000 100000")]),
        (Resources(pids=PidsLimits(5)), [("pids.max", "5")], [("pids.max", "5")]),
        (Resources(pids=PidsLimits(-1)), [("pids.max", "max")], [("pids.max", "max")]),
        (
            Resources(
                block_io=BlockIO(
                    weight=500,
                    weight_device=(WeightDevice(8, 0, 10),),
                    throttle_read_bps_device=(ThrottleDevice(8, 0, 1048576),),
                    throttle_write_iops_device=(ThrottleDevice(8, 16, 100),),
                )
            ),
            [
                ("blkio.bfq.weight", "500"),
                ("blkio.bfq.weight_device", "8:0 10"),
                ("blkio.throttle.read_bps_device", "8:0 1048576"),
                ("blkio.throttle.write_iops_device", "8:16 100"),
            ],
            [
                ("io.weight", "default 4950"),
                ("io.weight", "8:0 1"),
                ("io.max", "8:0 rbps=1048576"),
                ("io.max", "8:16 wiops=100"),
            ],
        ),
        (
            Resources(hugepage_limits=(HugepageLimit("2MB", 4194304),)),
            [("hugetlb.2MB.limit_in_bytes", "4194304")],
            [("hugetlb.2MB.max", "4194304")],
        ),
    ],
)
def test_writes(resources: Resources, on_v1: list[tuple[str, str]], on_v2: list[tuple[str, str]]) -> None:
    assert v1(resources) == on_v1
    assert v2(resources) == on_v2


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (cgroup.NO_LIMITS, "memory.limit_in_bytes"),
        (MemoryNow(100, 200), "memory.memsw.limit_in_bytes"),
        (MemoryNow(1000, 2000), "memory.limit_in_bytes"),
    ],
)
def test_raising_memory_raises_swap_first(now: MemoryNow, first: str) -> None:
    assert v1(Resources(memory=MemoryLimits(limit=500, swap=600)), now)[0][0] == first


def test_taking_the_limit_away_raises_swap_first() -> None:
    writes = v1(Resources(memory=MemoryLimits(limit=-1, swap=-1)), MemoryNow(100, 200))
    assert writes[0][0] == "memory.memsw.limit_in_bytes"


@pytest.mark.parametrize(("shares", "weight"), [(0, 1), (2, 1), (1024, 39), (262144, 10000), (10**9, 10000)])
def test_weight_from_shares(shares: int, weight: int) -> None:
    assert cgroup.weight_from_shares(shares) == weight


@pytest.mark.parametrize(("old", "new"), [(10, 1), (1000, 10000), (100, 910)])
def test_io_weight(old: int, new: int) -> None:
    assert cgroup.io_weight(old) == new


@pytest.mark.parametrize(
    "resources",
    [
        Resources(memory=MemoryLimits(swappiness=10)),
        Resources(memory=MemoryLimits(disable_oom_killer=True)),
        Resources(memory=MemoryLimits(kernel=10)),
        Resources(memory=MemoryLimits(swap=10)),
        Resources(memory=MemoryLimits(limit=20, swap=10)),
        Resources(cpu=CPULimits(realtime_runtime=1)),
        Resources(block_io=BlockIO(leaf_weight=3)),
        Resources(unified={"../memory.max": "1"}),
    ],
)
def test_what_v2_cannot_do_is_refused(resources: Resources) -> None:
    with pytest.raises(InvalidParameter):
        v2(resources)


@pytest.mark.parametrize(
    "resources", [Resources(memory=MemoryLimits(swappiness=101)), Resources(unified={"memory.max": "1"})]
)
def test_what_v1_cannot_do_is_refused(resources: Resources) -> None:
    with pytest.raises(InvalidParameter):
        v1(resources)


def test_unified() -> None:
    plan = cgroup.plan(Resources(unified={"memory.high": "5", "cpu.idle": "1"}), v1=(), v2=V2)
    assert plan.writes == (("unified", "cpu.idle", "1"), ("unified", "memory.high", "5"))


def test_devices_become_lines_or_a_program() -> None:
    resources = Resources(devices=(DeviceRule(),))
    assert cgroup.plan(resources, v1=V1).writes[0] == ("devices", "devices.deny", "a")
    assert cgroup.plan(resources, v1=(), v2=V2).device_program
    assert cgroup.plan(resources, v1={"memory"}, v2=()).device_program
    with pytest.raises(InvalidParameter):
        cgroup.plan(resources, v1={"memory"})


def test_hybrid_takes_each_controller_where_it_is() -> None:
    resources = Resources(memory=MemoryLimits(limit=9), hugepage_limits=(HugepageLimit("2MB", 4),))
    plan = cgroup.plan(resources, v1={"memory"}, v2={"hugetlb"})
    assert plan.writes == (("memory", "memory.limit_in_bytes", "9"), ("hugetlb", "hugetlb.2MB.max", "4"))


def test_a_controller_that_is_nowhere_is_still_asked_for() -> None:
    plan = cgroup.plan(Resources(pids=PidsLimits(5)), v1={"memory"}, v2=())
    assert plan.writes == (("pids", "pids.max", "5"),)
