"""What an engine holds of the machine: to be the same before and after."""

import os
import re
import subprocess
from pathlib import Path

from skiff.runtime.workshop import READY
from tests.integration.engines import Engine


def footprint(engine: Engine) -> dict[str, object]:
    """Mounts, cgroups, processes, links, firewall elements, records and bundles, with an empty trash."""
    engine.client.delete("/skiff/trash")
    ready = _ready(engine)
    pids = [pid for pid in engine.processes() if pid not in ready]
    return {
        "mounts": len(engine.mounts()),
        "cgroups": sorted(line for line in engine.leftovers() if line.startswith("cgroup")),
        "processes": len(pids),
        "namespaces": len(
            {_link(f"/proc/{pid}/ns/{kind}") for pid in pids for kind in ("mnt", "pid", "net")}
        ),
        "links": len(_inside(engine, "ip", "-o", "link")),
        "firewall": len(re.findall(r"\S+", " ".join(_inside(engine, "nft", "list", "ruleset")))),
        "containers": sorted(os.listdir(f"{engine.root}/data/containers")),
        "run": sorted(
            os.path.relpath(os.path.join(path, name), engine.root)
            for path, folders, files in os.walk(f"{engine.root}/run")
            for name in (*folders, *files)
        ),
    }


def leaked(before: dict[str, object], after: dict[str, object]) -> str:
    """For people: what there is more of than before. Less is no leak: the kernel tidies late."""
    return "\n".join(f"{key}: {more}" for key in before if (more := _more(before[key], after[key])))


def _more(before: object, after: object) -> str:
    if isinstance(before, int) and isinstance(after, int):
        return f"{before} became {after}" if after > before else ""
    assert isinstance(before, list)
    assert isinstance(after, list)
    return ", ".join(str(item) for item in after if item not in before)


def descriptors(engine: Engine) -> dict[str, int]:
    """Open descriptors by process: the engine's and the zygote's."""
    return {
        _name(pid): len(os.listdir(f"/proc/{pid}/fd"))
        for pid in engine.processes()
        if "skiff" in _name(pid) and "monitor" not in _name(pid)
    }


def _ready(engine: Engine) -> set[int]:
    """The monitor that sleeps until the next container: there or not, it is no leak."""
    found = set()
    for pid in engine.processes():
        try:
            if Path(f"/proc/{pid}/comm").read_text() == f"{READY}\n":
                found.add(pid)
        except OSError:
            continue
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:60]
    except OSError:
        return ""


def _inside(engine: Engine, *command: str) -> list[str]:
    done = subprocess.run([*engine.network.enter, *command], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
