"""skiff-oci: a runc-compatible command line, for conformance and for other engines.

The commands that make processes are in oci_run.py, what is kept between two commands in oci_store.py. Errors
are one line on stderr (and in --log), exit code 1.
"""

import argparse
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

import msgspec

import skiff
from skiff.errors import Conflict, InvalidParameter, SkiffError
from skiff.linux import capabilities, cgroups, seccomp, syscalls
from skiff.oci import runtime as oci
from skiff.runtime import oci_run
from skiff.runtime.isolation.handshake import StepFailed
from skiff.runtime.isolation.update import update as change_limits
from skiff.runtime.oci_store import Store, group_of, state_of

ROOT: Final = "/run/skiff-oci"

_Command = Callable[[Store, argparse.Namespace], int]


def state(store: Store, args: argparse.Namespace) -> int:
    _print_json(state_of(store, store.load(args.id)))
    return 0


def list_all(store: Store, args: argparse.Namespace) -> int:
    states = [state_of(store, record) for record in store.all()]
    if args.quiet:
        for one in states:
            print(one["id"])
    elif args.format == "json":
        print(json.dumps(states))
    else:
        columns = ("id", "pid", "status", "bundle", "created")
        rows = [[name.upper() for name in columns], *([str(one[name]) for name in columns] for one in states)]
        _print_table(rows)
    return 0


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def kill(store: Store, args: argparse.Namespace) -> int:
    record = store.load(args.id)
    number = signal_number(args.signal)
    group = group_of(record)
    if args.all:
        if group.exists():
            group.signal_all(number)
        return 0
    if store.status(record) == "stopped":
        raise Conflict("container not running")
    os.kill(record.pid, number)
    if number == signal.SIGKILL and group.is_frozen():
        group.thaw()  # a frozen process does not die
    return 0


def signal_number(text: str) -> int:
    """`9`, `KILL` or `SIGKILL`, in any case."""
    if text.isascii() and text.isdigit() and int(text) < signal.NSIG:
        return int(text)
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise InvalidParameter(f"unknown signal {text!r}") from None


def delete(store: Store, args: argparse.Namespace) -> int:
    try:
        record = store.load(args.id)
    except SkiffError:
        if not args.force:
            raise
        if os.path.basename(args.id) == args.id and args.id not in ("", ".", ".."):
            store.remove(args.id)  # what a create that was killed has left
        return 0
    status = store.status(record)
    if status != "stopped" and not args.force:
        raise Conflict(f"cannot delete container {args.id} that is not stopped: {status}")
    oci_run.destroy(store, record)
    return 0


def ps(store: Store, args: argparse.Namespace) -> int:
    pids = group_of(store.load(args.id)).pids()
    if args.format == "json":
        print(json.dumps(pids))
        return 0
    rows = [["UID", "PID", "PPID", "CMD"]]
    for pid in pids:
        try:
            about = dict(
                line.split(":\t", 1)
                for line in _read(f"/proc/{pid}/status").splitlines()
                if line.startswith(("Uid:", "PPid:", "Name:"))
            )
            command = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        rows.append([about["Uid"].split()[0], str(pid), about["PPid"], command or f"[{about['Name']}]"])
    _print_table(rows)
    return 0


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def pause(store: Store, args: argparse.Namespace) -> int:
    record = store.load(args.id)
    if store.status(record) not in ("running", "created"):
        raise Conflict("container not running")
    group_of(record).freeze()
    return 0


def resume(store: Store, args: argparse.Namespace) -> int:
    record = store.load(args.id)
    if store.status(record) != "paused":
        raise Conflict("container not paused")
    group_of(record).thaw()
    return 0


def update(store: Store, args: argparse.Namespace) -> int:
    """Change limits; a file (or stdin, `-`) with resources wins over the single flags."""
    record = store.load(args.id)
    if store.status(record) == "stopped":
        raise Conflict("container not running")
    if args.resources:
        try:
            text = sys.stdin.buffer.read() if args.resources == "-" else _read(args.resources).encode()
            resources = msgspec.json.decode(text, type=oci.Resources)
        except msgspec.DecodeError as error:
            raise InvalidParameter(f"{args.resources}: {error}") from error
    else:
        resources = _resources(args)
    change_limits(group_of(record), resources)
    return 0


def _resources(args: argparse.Namespace) -> oci.Resources:
    return oci.Resources(
        memory=oci.MemoryLimits(
            limit=args.memory, reservation=args.memory_reservation, swap=args.memory_swap
        ),
        cpu=oci.CPULimits(
            shares=args.cpu_share,
            quota=args.cpu_quota,
            period=args.cpu_period,
            cpus=args.cpuset_cpus or "",
            mems=args.cpuset_mems or "",
        ),
        pids=None if args.pids_limit is None else oci.PidsLimits(args.pids_limit),
        block_io=None if args.blkio_weight is None else oci.BlockIO(weight=args.blkio_weight),
    )


def events(store: Store, args: argparse.Namespace) -> int:
    if not args.stats:
        raise InvalidParameter("only events --stats is supported")
    record = store.load(args.id)
    print(json.dumps({"type": "stats", "id": record.id, "data": group_of(record).figures()}))
    return 0


def features(store: Store, args: argparse.Namespace) -> int:
    """What this runtime can do; OCI runtime-spec, features.md."""
    here = cgroups.layout()
    _print_json(
        {
            "ociVersionMin": "1.0.0",
            "ociVersionMax": oci.VERSION,
            "hooks": [
                *("prestart", "createRuntime", "createContainer"),
                *("startContainer", "poststart", "poststop"),
            ],
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
                "capabilities": list(capabilities.names(capabilities.ALL)),
                "cgroup": {"v1": here.version == 1, "v2": bool(here.v2), "systemd": False, "rdma": True},
                "seccomp": {
                    "enabled": seccomp.is_available(),
                    "actions": [
                        *("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS"),
                        *("SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"),
                    ],
                    "operators": [
                        f"SCMP_CMP_{op}" for op in ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE")
                    ],
                    "archs": [f"SCMP_ARCH_{arch.upper()}" for arch in syscalls.ARCHITECTURES],
                    "knownFlags": sorted(seccomp.FLAGS),
                    "supportedFlags": sorted(seccomp.FLAGS),
                },
                "apparmor": {"enabled": True},
                "selinux": {"enabled": True},
            },
            "annotations": {"skiff.version": skiff.__version__},
        }
    )
    return 0


def spec(store: Store, args: argparse.Namespace) -> int:
    """Write a config.json to start from."""
    path = os.path.join(args.bundle, "config.json")
    caps = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    quiet = ("nosuid", "noexec", "nodev")
    example = oci.Spec(
        oci_version=oci.VERSION,
        process=oci.Process(
            terminal=True,
            args=("sh",),
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
            capabilities=oci.Capabilities(bounding=caps, effective=caps, permitted=caps),
            rlimits=(oci.Rlimit("RLIMIT_NOFILE", 1024, 1024),),
            no_new_privileges=True,
        ),
        root=oci.Root("rootfs", readonly=True),
        hostname="skiff",
        mounts=(
            oci.Mount("/proc", "proc", "proc"),
            oci.Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
            oci.Mount(
                "/dev/pts",
                "devpts",
                "devpts",
                ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            ),
            oci.Mount("/dev/shm", "tmpfs", "shm", (*quiet, "mode=1777", "size=65536k")),
            oci.Mount("/dev/mqueue", "mqueue", "mqueue", quiet),
            oci.Mount("/sys", "sysfs", "sysfs", (*quiet, "ro")),
            oci.Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*quiet, "relatime", "ro")),
        ),
        linux=oci.Linux(
            resources=oci.Resources(devices=(oci.DeviceRule(allow=False, access="rwm"),)),
            namespaces=tuple(
                oci.Namespace(kind) for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ),
            masked_paths=("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"),
            readonly_paths=("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
        ),
    )
    with open(path, "xb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(example), indent=2) + b"\n")
    return 0


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


# -- the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidParameter(message)


def parser() -> argparse.ArgumentParser:
    top = _Parser(prog="skiff-oci", description="Run containers according to the OCI runtime specification.")
    top.add_argument("--root", default=ROOT)
    top.add_argument("--log", default="")
    top.add_argument("--log-format", default="text", choices=("text", "json"))
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.add_argument("--version", "-v", action="version", version=_version())
    top.add_argument(
        "--systemd-cgroup", action="store_true", help="refused: cgroup files are driven directly"
    )
    commands = top.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def command(name: str, act: _Command, *, needs_id: bool = True) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(name, allow_abbrev=False)
        sub.set_defaults(act=act)
        if needs_id:
            sub.add_argument("id")
        return sub

    for name, act in (("create", oci_run.create), ("run", oci_run.run)):
        sub = command(name, act)
        sub.add_argument("--bundle", "-b", default=".")
        sub.add_argument("--console-socket", default="")
        sub.add_argument("--pid-file", default="")
        sub.add_argument("--no-pivot", action="store_true", help="refused")
        sub.add_argument("--no-new-keyring", action="store_true", help="no keyring is made anyway")
        sub.add_argument("--preserve-fds", type=int, default=0, help="refused unless 0")
        if name == "run":
            sub.add_argument("--detach", "-d", action="store_true")
            sub.add_argument("--keep", action="store_true")
    command("start", oci_run.start)
    command("state", state)
    sub = command("kill", kill)
    sub.add_argument("--all", "-a", action="store_true")
    sub.add_argument("signal", nargs="?", default="SIGTERM")
    command("delete", delete).add_argument("--force", "-f", action="store_true")
    _exec_flags(command("exec", oci_run.execute))
    sub = command("ps", ps)
    sub.add_argument("--format", "-f", default="table", choices=("table", "json"))
    sub = command("list", list_all, needs_id=False)
    sub.add_argument("--format", "-f", default="table", choices=("table", "json"))
    sub.add_argument("--quiet", "-q", action="store_true")
    command("features", features, needs_id=False)
    command("spec", spec, needs_id=False).add_argument("--bundle", "-b", default=".")
    command("pause", pause)
    command("resume", resume)
    command("events", events).add_argument("--stats", action="store_true")
    sub = command("update", update)
    sub.add_argument("--resources", "-r", default="")
    for flag in ("memory", "memory-reservation", "memory-swap", "cpu-share", "cpu-quota", "cpu-period"):
        sub.add_argument(f"--{flag}", type=int)
    for flag in ("pids-limit", "blkio-weight"):
        sub.add_argument(f"--{flag}", type=int)
    for flag in ("cpuset-cpus", "cpuset-mems"):
        sub.add_argument(f"--{flag}")
    return top


def _exec_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--process", "-p", default="")
    sub.add_argument("--tty", "-t", action="store_true")
    sub.add_argument("--detach", "-d", action="store_true")
    sub.add_argument("--user", "-u", default="")
    sub.add_argument("--cwd", default="")
    sub.add_argument("--env", "-e", action="append", default=[])
    sub.add_argument("--cap", "-c", action="append", default=[])
    sub.add_argument("--additional-gids", "-g", type=int, action="append", default=[])
    sub.add_argument("--no-new-privs", action="store_true")
    sub.add_argument("--console-socket", default="")
    sub.add_argument("--pid-file", default="")
    sub.add_argument("--preserve-fds", type=int, default=0, help="refused unless 0")
    sub.add_argument("command", nargs=argparse.REMAINDER)


def _version() -> str:
    return f"skiff-oci version {skiff.__version__}\nspec: {oci.VERSION}"


def _refuse(args: argparse.Namespace) -> None:
    if args.systemd_cgroup:
        raise InvalidParameter("--systemd-cgroup is not supported: cgroup files are driven directly")
    if getattr(args, "no_pivot", False):
        raise InvalidParameter(
            "--no-pivot is not supported: without pivot_root the host's root stays in reach"
        )
    if getattr(args, "preserve_fds", 0):
        raise InvalidParameter(
            "--preserve-fds is not supported: no descriptor of the host goes into a container"
        )


def main(argv: list[str] | None = None) -> int:
    args: Any = argparse.Namespace(log="", log_format="text", debug=False)
    try:
        parser().parse_args(argv, args)
        _refuse(args)
        act: _Command = args.act
        return act(Store(args.root), args)
    except (SkiffError, StepFailed, OSError) as error:
        if args.debug:
            raise
        _complain(args, str(error))
        return 1


def _complain(args: argparse.Namespace, message: str) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat()
    sys.stderr.write(f"skiff-oci: {message}\n")
    if not args.log:
        return
    if args.log_format == "json":
        line = json.dumps({"level": "error", "msg": message, "time": now})
    else:
        line = f'time="{now}" level=error msg={json.dumps(message)}'
    with open(args.log, "a", encoding="utf-8") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
