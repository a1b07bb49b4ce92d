"""New limits for a container that runs: looked at against what it uses, planned, written."""

from skiff.linux import cgroups
from skiff.oci.runtime import MemoryLimits, Resources
from skiff.runtime.isolation import cgroup as limits
from skiff.runtime.isolation.handshake import StepFailed


def update(group: cgroups.Group, resources: Resources) -> None:
    """Set what is given, leave the rest. StepFailed, InvalidParameter, OSError."""
    here = group.layout
    if resources.memory is not None and resources.memory.check_before_update:
        _check(group, resources.memory)
    plan = limits.plan(
        resources, v1=here.v1, v2=here.v2_controllers if here.v2 else None, now=_memory_now(group)
    )
    group.apply(plan.writes)
    if plan.device_program:
        group.restrict_devices(plan.device_program)


def _check(group: cgroups.Group, wanted: MemoryLimits) -> None:
    """A limit below the use would make the kernel kill: refused. config-linux.md § Memory."""
    used = _figure(group, "memory.usage_in_bytes", "memory.current")
    if used is not None and wanted.limit is not None and 0 < wanted.limit < used:
        raise StepFailed("update", 16, f"memory limit {wanted.limit} is below the current use {used}")


def _memory_now(group: cgroups.Group) -> limits.MemoryNow:
    now = (_figure(group, f"memory.{name}limit_in_bytes") for name in ("", "memsw."))
    return limits.MemoryNow(
        *(limits.UNLIMITED if value is None or value >= 1 << 62 else value for value in now)
    )


def _figure(group: cgroups.Group, *names: str) -> int | None:
    """The first of these files that is here; None if none is, or it holds no number."""
    for name in names:
        try:
            return int(group.read("memory", name))
        except (FileNotFoundError, ValueError):
            continue
    return None
