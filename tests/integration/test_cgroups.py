"""What a container may use and what it has used, by whichever version of cgroups the machine has.

tests/vm/boot runs this on cgroup v2 alone.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skiff.linux import cgroups
from tests.integration.engines import Engine, wait_for

pytestmark = pytest.mark.root
RUN = ("run", "-d", "--network", "none")
IS_V2 = cgroups.layout().version == 2
MIB = 1 << 20

# what → the file inside a container, and how it tells the value, on v1 and on v2
FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "reservation": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "swap": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "cpu": ("cpu/cpu.cfs_quota_us", "cpu.max"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "pids": ("pids/pids.max", "pids.max"),
}


def told(engine: Engine, id: str, *names: str) -> list[str]:
    """What the container's own files say."""
    paths = [f"/sys/fs/cgroup/{FILES[name][IS_V2]}" for name in names]
    return engine.docker("exec", id, "cat", *paths).ok().split("\n")


def by_version(v1: str, v2: str) -> str:
    return v2 if IS_V2 else v1


def test_the_engine_says_what_it_uses(engine: Engine) -> None:
    info = engine.client.get("/info").json()
    assert info["CgroupVersion"] == by_version("1", "2")
    assert info["CgroupDriver"] == "cgroupfs"
    for name in ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"):
        assert info[name] is True, name


def test_limits_are_set_and_changed(engine: Engine) -> None:
    memory = ("-m", "64m", "--memory-reservation", "32m", "--memory-swap", "96m")
    cpu = ("--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0")
    id = engine.docker(*RUN, *memory, *cpu, "--pids-limit", "33", "busybox", "sleep", "60").ok()
    everything = ("memory", "reservation", "swap", "cpu", "shares", "cpus", "pids")
    assert told(engine, id, *everything) == [
        str(64 * MIB),
        str(32 * MIB),
        by_version(str(96 * MIB), str(32 * MIB)),  # v2 counts swap alone
        by_version("50000", "50000 100000"),
        by_version("512", "20"),
        "0",
        "33",
    ]
    changes = (
        "-m",
        "96m",
        "--memory-swap",
        "-1",
        "--cpus",
        "0.25",
        "--pids-limit",
        "17",
        "--cpu-shares",
        "2048",
    )
    engine.docker("update", *changes, id).ok()
    assert told(engine, id, "memory", "swap", "cpu", "shares", "pids") == [
        str(96 * MIB),
        by_version("9223372036854771712", "max"),
        by_version("25000", "25000 100000"),
        by_version("2048", "79"),
        "17",
    ]


def test_a_quota_of_cpu_is_kept(engine: Engine) -> None:
    id = engine.docker(*RUN, "--cpus", "0.2", "busybox", "sh", "-c", "while true; do :; done").ok()

    def used() -> tuple[float, float]:
        stats = engine.client.get(f"/containers/{id}/stats", stream=False).json()["cpu_stats"]
        assert stats["online_cpus"] >= 1
        return stats["cpu_usage"]["total_usage"] / 1e9, stats["throttling_data"]["throttled_periods"]

    first, began = used(), time.monotonic()
    time.sleep(1)
    second, passed = used(), time.monotonic() - began
    assert 0 < second[0] - first[0] < 0.35 * passed
    assert second[1] > first[1]


def test_what_has_been_used_is_told(engine: Engine) -> None:
    script = "head -c 20000000 /dev/zero > /dev/shm/x; sleep 60"
    id = engine.docker(*RUN, "-m", "128m", "busybox", "sh", "-c", script).ok()

    def stats() -> dict[str, dict[str, int]]:
        seen: dict[str, dict[str, int]] = engine.client.get(f"/containers/{id}/stats", stream=False).json()
        return seen

    wait_for(lambda: stats()["memory_stats"]["usage"] > 20_000_000, 20, lambda: str(stats()))
    seen = stats()
    assert seen["memory_stats"]["limit"] == 128 * MIB
    assert seen["pids_stats"]["current"] == 1
    assert seen["cpu_stats"]["cpu_usage"]["total_usage"] > 0  # type: ignore[index]
    of_memory: dict[str, int] = seen["memory_stats"]["stats"]  # type: ignore[assignment]
    assert of_memory[by_version("total_cache", "shmem")] >= 20_000_000
    assert ("max_usage" in seen["memory_stats"]) == (not IS_V2)
    table = engine.docker("stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", id).ok()
    assert table.endswith("/ 128MiB 1"), table


def test_devices(engine: Engine) -> None:
    """v1 by the controller, v2 by a program in the kernel."""
    node = next(
        path for path in ("/dev/loop-control", "/dev/ttyS0", "/dev/kvm", "/dev/vda") if os.path.exists(path)
    )
    kind = "b" if node == "/dev/vda" else "c"
    number = os.stat(node).st_rdev
    rule = f"{kind} {os.major(number)}:{os.minor(number)}"
    tries = (
        f"mknod /n c 1 3; mknod /m {rule.replace(':', ' ')};"
        "for d in n m; do if (: < /$d) 2>&1 | grep -q 'not permitted'; then echo no; else echo yes; fi; done"
    )
    for flags, answer in (
        ((), "no"),
        (("--device-cgroup-rule", f"{kind} *:{os.minor(number) + 1} rwm"), "no"),
        (("--device-cgroup-rule", f"{rule} m"), "no"),
        (("--device-cgroup-rule", f"{rule} rwm"), "yes"),
        (("--device-cgroup-rule", f"{kind} {os.major(number)}:* r"), "yes"),
        (("--device", f"{node}:/dev/named:r"), "yes"),
        (("--device", f"{node}:/dev/named:w"), "no"),
        (("--privileged",), "yes"),
    ):
        done = engine.docker("run", "--rm", "--network", "none", *flags, "busybox", "sh", "-c", tries)
        assert done.out.split() == ["yes", answer], (flags, done)


def test_pause_stops_every_process(engine: Engine) -> None:
    script = "(while true; do echo x >> /ticks; sleep 0.02; done) & while true; do sleep 1; done"
    id = engine.docker(*RUN, "busybox", "sh", "-c", script).ok()

    def ticks() -> int:
        return len(engine.docker("cp", f"{id}:/ticks", "-").out)

    wait_for(lambda: ticks() > 0, 10, lambda: "it does not tick")
    engine.docker("pause", id).ok()
    before = ticks()
    time.sleep(0.3)
    assert ticks() == before
    assert "(Paused)" in engine.docker("ps", "--format", "{{.Status}}").ok()
    assert "is paused" in engine.docker("exec", id, "true").err
    engine.docker("unpause", id).ok()
    wait_for(lambda: ticks() > before, 10, lambda: "it does not go on")
    engine.docker("pause", id).ok()
    engine.docker("rm", "-f", id).ok()  # also what is frozen


def test_everything_out_of_memory_is_counted(engine: Engine) -> None:
    """A child that is killed leaves its container running; `oom` is told, State.OOMKilled is not."""
    eat = "x=a; while true; do x=$x$x; done"
    id = engine.docker(
        *RUN, "-m", "24m", "--memory-swap", "24m", "busybox", "sh", "-c", f"sh -c '{eat}'; echo $?; sleep 60"
    ).ok()
    wait_for(lambda: engine.docker("logs", id).out == "137\n", 30, lambda: engine.docker("logs", id).out)
    state = engine.client.get(f"/containers/{id}/json").json()["State"]
    assert state["Running"]


def test_the_limit_of_a_disk(engine: Engine) -> None:
    major, minor = os.major(number := os.stat(engine.root).st_dev), os.minor(number)
    block = Path(f"/sys/dev/block/{major}:{minor}")
    if not block.exists():
        pytest.skip("the tests' directory is on no disk")
    disk = block.resolve().parent if (block / "partition").exists() else block.resolve()
    node = f"/dev/{disk.name}"
    limits = ("--device-write-bps", f"{node}:1mb", "--device-read-iops", f"{node}:100")
    done = engine.docker(*RUN, *limits, "busybox", "sleep", "60")
    id = done.ok()
    seen = (disk / "dev").read_text().strip()
    if IS_V2:
        said = engine.docker("exec", id, "cat", "/sys/fs/cgroup/io.max").ok()
        assert said == f"{seen} rbps=max wbps=1048576 riops=100 wiops=max"
    else:
        path = "/sys/fs/cgroup/blkio/blkio.throttle"
        said = engine.docker("exec", id, "cat", f"{path}.write_bps_device", f"{path}.read_iops_device").ok()
        assert said.split("\n") == [f"{seen} 1048576", f"{seen} 100"]


@pytest.mark.parametrize("mode", ["private", "host"])
def test_the_cgroup_namespace(engine: Engine, mode: str) -> None:
    id = engine.docker(*RUN, "--cgroupns", mode, "busybox", "sleep", "60").ok()
    lines = engine.docker("exec", id, "cat", "/proc/self/cgroup").ok().split("\n")
    paths = {line.split(":", 2)[2] for line in lines}
    expected = "/" if mode == "private" else f"{engine.cgroup}/{id}"
    assert expected in paths
    assert mode == "host" or paths == {"/"}
    assert engine.docker("exec", id, "sh", "-c", "mkdir /sys/fs/cgroup/x 2>/dev/null || echo no").ok() == "no"


def test_a_container_that_manages_groups_of_its_own(engine: Engine) -> None:
    """As systemd, dockerd and kubelet do in a privileged container: exec and stop go on working."""
    nested = by_version(
        "mkdir /sys/fs/cgroup/pids/inner && echo $$ > /sys/fs/cgroup/pids/inner/cgroup.procs",
        "mkdir /sys/fs/cgroup/inner && echo $$ > /sys/fs/cgroup/inner/cgroup.procs &&"
        " echo +pids +memory > /sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/inner2",
    )
    id = engine.docker(*RUN, "--privileged", "busybox", "sh", "-c", f"{nested} && echo ready; sleep 600").ok()
    wait_for(lambda: engine.docker("logs", id).out == "ready\n", 10, lambda: repr(engine.docker("logs", id)))
    assert engine.docker("exec", id, "echo", "in").ok() == "in"
    engine.docker("exec", "-d", id, "sleep", "600").ok()
    engine.docker("update", "--pids-limit", "40", id).ok()
    engine.docker("pause", id).ok()
    engine.docker("unpause", id).ok()
    engine.docker("stop", "-t", "0", id).ok()
    engine.docker("rm", id).ok()
    gone: Callable[[], bool] = lambda: not [line for line in engine.leftovers() if id in line]  # noqa: E731
    wait_for(gone, 10, lambda: "\n".join(engine.leftovers()))
