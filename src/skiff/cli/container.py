"""Containers that exist already: what stops, changes, names and removes them."""

from __future__ import annotations

from skiff.cli.each import each
from skiff.cli.filters import DRY_RUN, FORCE, KINDS, PRUNE_FILTER, agreed, wire
from skiff.cli.flags import Command
from skiff.client.connection import EngineError
from skiff.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session

    Json = dict[str, Any]


def stop(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    timeout = asked["timeout"] if "timeout" in asked.changed else None
    return each(
        session, asked.args, lambda name: engine.stop_container(name, timeout=timeout, signal=asked["signal"])
    )


def restart(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    timeout = asked["timeout"] if "timeout" in asked.changed else None
    return each(
        session,
        asked.args,
        lambda name: engine.restart_container(name, timeout=timeout, signal=asked["signal"]),
    )


def kill(session: Session, asked: Parsed) -> int:
    engine = session.engine()
    return each(session, asked.args, lambda name: engine.kill_container(name, signal=asked["signal"]))


def pause(session: Session, asked: Parsed) -> int:
    return each(session, asked.args, session.engine().pause_container)


def unpause(session: Session, asked: Parsed) -> int:
    return each(session, asked.args, session.engine().unpause_container)


def rm(session: Session, asked: Parsed) -> int:
    engine = session.engine()

    def remove(name: str) -> None:
        if not name.strip("/"):
            raise InvalidParameter("container name cannot be empty")
        try:
            engine.remove_container(
                name.strip("/") if not asked["link"] else name,
                force=asked["force"],
                volumes=asked["volumes"],
                link=asked["link"],
            )
        except EngineError as error:
            if not asked["force"] or error.status != 404:
                raise
            session.err(str(error))  # what is not there is gone, as was asked
        else:
            print(name)

    return each(session, asked.args, remove, echo=False)


def rename(session: Session, asked: Parsed) -> int:
    old, new = (name.strip() for name in asked.args)
    if not old or not new:
        raise InvalidParameter("Error: Neither old nor new names may be empty")
    failed = each(session, [old], lambda name: session.engine().rename_container(name, new), echo=False)
    if failed:
        session.err(f"Error: failed to rename container named {old}")
    return failed


def port(session: Session, asked: Parsed) -> int:
    if asked.args[0] in ("add", "rm") and len(asked.args) > 2:
        return _change_ports(session, *asked.args)
    name, *wanted = asked.args
    if len(wanted) > 1:
        raise InvalidParameter("expected CONTAINER [PRIVATE_PORT[/PROTO]], or add|rm CONTAINER PORT...")
    container = session.engine().container(name)
    published: dict[str, list[Json] | None] = container["NetworkSettings"].get("Ports") or {}
    if wanted:
        number, _, protocol = wanted[0].partition("/")
        if not number.isdecimal() or int(number) > 65535:
            raise InvalidParameter(f"Error: invalid port ({number})")
        key = f"{number}/{protocol or 'tcp'}"
        bindings = published.get(key)
        if not bindings:
            raise InvalidParameter(f"Error: No public port '{wanted[0]}' published for {name}")
        for binding in bindings:
            print(_address(binding))
        return 0
    lines = [f"{key} -> {_address(binding)}" for key, found in published.items() for binding in found or ()]
    from skiff.cli.human import natural

    for line in sorted(lines, key=natural):
        print(line)
    return 0


def _change_ports(session: Session, act: str, name: str, *specs: str) -> int:
    """`port add web 8080:80`, `port rm web 80`: as -p of run, while the container runs."""
    from skiff.cli.run_ports import published

    try:
        _, bindings = published(specs)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
    engine = session.engine()
    if act == "add":
        engine.publish_ports(name, bindings)
    else:
        engine.unpublish_ports(name, bindings)
    return 0


def _address(binding: Json) -> str:
    host = binding["HostIp"]
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"


def update(session: Session, asked: Parsed) -> int:
    if not asked.changed:
        raise InvalidParameter("you must provide one or more flags when using this command")
    body: Json = {wire_name: asked[flag] for flag, wire_name in UPDATES.items() if flag in asked.changed}
    if "restart" in asked.changed:
        body["RestartPolicy"] = asked["restart"]
    engine = session.engine()
    warnings: list[str] = []

    def one(name: str) -> None:
        warnings.extend((engine.update_container(name, body) or {}).get("Warnings") or ())

    code = each(session, asked.args, one)
    if warnings:
        print("\n".join(warnings))
    return code


UPDATES = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def parse_cpus(text: str) -> int:
    """1.5 → nano CPUs, exactly. Raises ValueError."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not digits.isdecimal():
        raise ValueError(f"failed to parse {text} as a rational number")
    if len(fraction.rstrip("0")) > 9:
        raise ValueError("value is too precise")
    return int(whole or "0") * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))


def parse_swap(text: str) -> int:
    from skiff.cli.flags import parse_bytes

    return -1 if text == "-1" else parse_bytes(text)


def parse_restart(text: str) -> Json:
    """`no`, `always`, `unless-stopped`, `on-failure[:count]` → RestartPolicy. Raises ValueError."""
    name, _, count = text.partition(":")
    if not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    if count and not count.isdecimal():
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def prune(session: Session, asked: Parsed) -> int:
    dry, filters = asked["dry-run"], wire(asked["filter"])
    warning = "WARNING! This will remove all stopped containers."
    if not dry and not asked["force"] and not agreed(session, warning):
        return 0
    engine = session.engine()
    reply = engine.prunable("containers", filters) if dry else engine.prune_containers(filters)
    from skiff.cli.human import size

    if reply.get("ContainersDeleted"):
        print("Would delete containers:" if dry else "Deleted Containers:")
        print("\n".join(reply["ContainersDeleted"]) + "\n")
    print(f"Total {'reclaimable' if dry else 'reclaimed'} space: {size(reply['SpaceReclaimed'])}")
    return 0


_SIGNAL = ("signal", "s", "string", "", "Signal to send to the container")
_TIMEOUT = ("timeout", "t", "int", 0, "Seconds to wait before killing the container")
_TIME = ("time", "", "int", 0, "")
MANY = "CONTAINER [CONTAINER...]"


def _names(verb: str) -> tuple[str, str]:
    return f"container {verb}", verb


def _stopping(act: Any, verb: str, about: str) -> Command:
    def with_old_spelling(session: Session, asked: Parsed) -> int:
        if "time" in asked.changed:
            asked.values["timeout"] = asked["time"]
            asked.changed.add("timeout")
        code: int = act(session, asked)
        return code

    flags = (_SIGNAL, _TIMEOUT, _TIME)
    return Command(f"[OPTIONS] {MANY}", about, with_old_spelling, flags, least=1, aliases=_names(verb))


COMMANDS = {
    "stop": _stopping(stop, "stop", "Stop one or more running containers"),
    "restart": _stopping(restart, "restart", "Restart one or more containers"),
    "kill": Command(
        f"[OPTIONS] {MANY}",
        "Kill one or more running containers",
        kill,
        (_SIGNAL,),
        least=1,
        aliases=_names("kill"),
    ),
    "pause": Command(
        MANY, "Pause all processes within one or more containers", pause, least=1, aliases=_names("pause")
    ),
    "unpause": Command(
        MANY,
        "Unpause all processes within one or more containers",
        unpause,
        least=1,
        aliases=_names("unpause"),
    ),
    "rm": Command(
        f"[OPTIONS] {MANY}",
        "Remove one or more containers",
        rm,
        (
            ("force", "f", "bool", False, "Force the removal of a running container (uses SIGKILL)"),
            ("link", "l", "bool", False, "Remove the specified link"),
            ("volumes", "v", "bool", False, "Remove anonymous volumes associated with the container"),
        ),
        least=1,
        aliases=("container rm", "container remove", "rm"),
    ),
    "rename": Command(
        "CONTAINER NEW_NAME", "Rename a container", rename, least=2, most=2, aliases=_names("rename")
    ),
    "port": Command(
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        port,
        least=1,
        most=2,
        aliases=_names("port"),
    ),
    "update": Command(
        f"[OPTIONS] {MANY}",
        "Update configuration of one or more containers",
        update,
        (
            (
                "blkio-weight",
                "",
                "uint16",
                0,
                "Block IO (relative weight), between 10 and 1000, or 0 to disable",
            ),
            ("cpu-period", "", "int", 0, "Limit CPU CFS (Completely Fair Scheduler) period"),
            ("cpu-quota", "", "int", 0, "Limit CPU CFS (Completely Fair Scheduler) quota"),
            ("cpu-rt-period", "", "int", 0, "Limit the CPU real-time period in microseconds"),
            ("cpu-rt-runtime", "", "int", 0, "Limit the CPU real-time runtime in microseconds"),
            ("cpu-shares", "c", "int", 0, "CPU shares (relative weight)"),
            ("cpus", "", "decimal", 0, "Number of CPUs"),
            ("cpuset-cpus", "", "string", "", "CPUs in which to allow execution (0-3, 0,1)"),
            ("cpuset-mems", "", "string", "", "MEMs in which to allow execution (0-3, 0,1)"),
            ("memory", "m", "bytes", 0, "Memory limit"),
            ("memory-reservation", "", "bytes", 0, "Memory soft limit"),
            (
                "memory-swap",
                "",
                "swap",
                0,
                "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
            ),
            ("pids-limit", "", "int", 0, "Tune container pids limit (set -1 for unlimited)"),
            ("restart", "", "restart", "", "Restart policy to apply when a container exits"),
        ),
        least=1,
        kinds={"decimal": parse_cpus, "swap": parse_swap, "restart": parse_restart},
        aliases=_names("update"),
    ),
    "container prune": Command(
        "[OPTIONS]",
        "Remove all stopped containers",
        prune,
        (PRUNE_FILTER, FORCE, DRY_RUN),
        most=0,
        kinds=KINDS,
    ),
}
