"""Facts about this host that containers depend on: processors, cgroups, what it may grant."""

import os
import resource

from skiff.docker import ulimits
from skiff.engine.containers.spec.limits import Machine
from skiff.engine.containers.starting import HostFacts
from skiff.linux import capabilities, cgroups


def machine() -> Machine:
    """What limits are measured against."""
    here = cgroups.layout()
    unified = here.version == 2
    return Machine(
        cpus=_text("/sys/devices/system/cpu/online") or "0",
        cpu_count=os.cpu_count() or 1,
        memory_nodes=_text("/sys/devices/system/node/online") or "0",
        controllers=here.controllers,
        swap_limit=unified or _has_file(here, "memory", "memory.memsw.limit_in_bytes"),
        blkio_weight=unified or _has_file(here, "blkio", "blkio.weight"),
        blkio_weight_device=unified or _has_file(here, "blkio", "blkio.weight_device"),
        unified=unified,
        ulimits=_hard_limits(),
    )


def _hard_limits() -> dict[str, int]:
    """The hard limits that we cannot exceed, by the names of --ulimit."""
    if capabilities.get_sets()[0] & capabilities.mask(["CAP_SYS_RESOURCE"]):
        return {}
    kinds = {name: getattr(resource, f"RLIMIT_{name.upper()}", None) for name in ulimits.NAMES}
    found = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items() if kind is not None}
    return {name: most for name, most in found.items() if most != resource.RLIM_INFINITY}


def facts() -> HostFacts:
    about = os.uname()
    numbers = about.release.replace("-", ".").split(".")
    return HostFacts(
        architecture=about.machine,
        kernel=(int(numbers[0]), int(numbers[1])),
        apparmor=_text("/sys/module/apparmor/parameters/enabled") == "Y",
        selinux=os.path.isdir("/sys/fs/selinux/booleans"),
    )


def available_capabilities() -> tuple[str, ...]:
    """What this process may hand on."""
    effective, permitted, _ = capabilities.get_sets()
    return capabilities.names(effective & permitted)


def _has_file(here: cgroups.Layout, controller: str, name: str) -> bool:
    root = here.v1.get(controller, "")
    if not root:
        return False
    # the root group of some controllers lacks the file that its children have
    for directory in (root, *(entry.path for entry in os.scandir(root) if entry.is_dir())):
        if os.path.exists(f"{directory}/{name}"):
            return True
    return False


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (FileNotFoundError, PermissionError):
        return ""
