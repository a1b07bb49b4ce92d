"""`skiff check`: what of the kernel and of our rights is here, what a lack costs, and how to get it.

Asks the kernel by trying, each time in a child process that leaves nothing behind. Needs neither an engine
nor root. Exit code 0 when containers can run here, else 1.
"""

import ctypes
import errno
import importlib.util
import os
import socket
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from skiff.cli.flags import Command
from skiff.linux import capabilities, cgroups, seccomp, syscalls
from skiff.linux.libc import libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skiff.cli.flags import Parsed
    from skiff.cli.session import Session


class Finding(NamedTuple):
    """One line of the table. cost and remedy are shown for a lack; needed: no container without it."""

    name: str
    is_here: bool
    about: str = ""
    cost: str = ""
    remedy: str = ""
    needed: bool = False


NAMESPACES: Final = {
    "mount": ("mnt", 0x00020000, "CONFIG_NAMESPACES"),
    "pid": ("pid", 0x20000000, "CONFIG_PID_NS"),
    "uts": ("uts", 0x04000000, "CONFIG_UTS_NS"),
    "ipc": ("ipc", 0x08000000, "CONFIG_IPC_NS"),
    "network": ("net", 0x40000000, "CONFIG_NET_NS"),
    "cgroup": ("cgroup", 0x02000000, "CONFIG_CGROUPS"),
}
_NEWUSER: Final = 0x10000000
_NEWNET: Final = 0x40000000
_NEWNS: Final = 0x00020000


def check(session: "Session | None" = None, flags: "Parsed | None" = None) -> int:
    """Print the table; no engine is asked."""
    found = findings()
    print(table(found), end="")
    missing = [finding.name for finding in found if finding.needed and not finding.is_here]
    if missing:
        print(f"\nContainers cannot run here: {', '.join(missing)} missing.")
        return 1
    print("\nContainers can run here.")
    return 0


def table(found: list[Finding]) -> str:
    """Aligned lines; below each lack what it costs and what helps."""
    width = max(len(finding.name) for finding in found)
    lines = []
    for finding in found:
        word = "ok" if finding.is_here else "MISSING" if finding.needed else "absent"
        lines.append(f"{finding.name.ljust(width)}  {word.ljust(7)}  {finding.about}".rstrip())
        if not finding.is_here:
            indent = " " * (width + 11)
            lines += [f"{indent}{label}: {text}" for label, text in _advice(finding) if text]
    return "\n".join(lines) + "\n"


def _advice(finding: Finding) -> tuple[tuple[str, str], ...]:
    return ("cost", finding.cost), ("help", finding.remedy)


def findings() -> list[Finding]:
    """Everything that is looked at, in the order of the table."""
    return [
        _root(),
        *(_namespace(kind) for kind in NAMESPACES),
        _user_namespace(),
        *_cgroups(),
        _overlay(),
        _seccomp(),
        *_calls(),
        *_network(),
        *_modules(),
    ]


def _effective() -> int:
    return capabilities.get_sets()[0]


def _root() -> Finding:
    has_it = bool(_effective() & capabilities.mask(["CAP_SYS_ADMIN"]))
    who = f"uid {os.geteuid()}, {'with' if has_it else 'without'} CAP_SYS_ADMIN"
    return Finding(
        "root",
        has_it,
        who,
        "the engine cannot make namespaces, mounts and networks",
        "run the engine as root (sudo skiffd); to use one that runs, join the group docker",
        needed=True,
    )


def attempt(act: Callable[[], int]) -> int:
    """The errno with which `act` fails in a child process of its own; 0 when it works."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            code = 0 if act() >= 0 else ctypes.get_errno()
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _unshare(flags: int) -> int:
    """unshare(2); without rights, inside a user namespace of its own, in which everybody has them."""
    if not _effective() & capabilities.mask(["CAP_SYS_ADMIN"]):
        flags |= _NEWUSER
    return int(libc.unshare(flags))


def _reason(code: int) -> str:
    return "" if code == 0 else os.strerror(code) if code > 0 else f"killed by signal {-code}"


def _namespace(kind: str) -> Finding:
    name, flag, option = NAMESPACES[kind]
    code = attempt(lambda: _unshare(flag)) if os.path.exists(f"/proc/self/ns/{name}") else errno.ENOSYS
    return Finding(
        f"{kind} namespace",
        code == 0,
        _reason(code),
        f"containers cannot have their own {kind} namespace",
        f"a kernel with {option}; in a container, run it with more rights (--privileged)",
        needed=kind not in ("cgroup", "network"),
    )


def _user_namespace() -> Finding:
    code = attempt(lambda: int(libc.unshare(_NEWUSER)))
    return Finding(
        "user namespace",
        code == 0,
        _reason(code),
        "no containers whose root is nobody on the host, none without root",
        "sysctl user.max_user_namespaces=15000, kernel.unprivileged_userns_clone=1; CONFIG_USER_NS",
    )


def _cgroups() -> list[Finding]:
    try:
        here = cgroups.layout()
    except OSError as error:
        here, problem = cgroups.Layout({}, "", frozenset()), str(error)
    else:
        problem = "none is mounted"
    kind = "hybrid" if here.v1 and here.v2 else "v2" if here.v2 else "v1" if here.v1 else problem
    points = [*dict.fromkeys(here.v1.values()), *([here.v2] if here.v2 else [])]
    closed = [point for point in points if not os.access(point, os.W_OK)]
    main_one = Finding(
        "control groups",
        bool(points) and not closed,
        f"{kind}; not writable: {_some(closed)}" if closed else kind,
        "containers cannot be made, limited or counted",
        "mount -t cgroup2 none /sys/fs/cgroup; as another user, a delegated group (systemd Delegate=yes)",
        needed=True,
    )
    costs = {
        "memory": "no --memory limits",
        "cpu": "no --cpus, no --cpu-shares",
        "cpuset": "no --cpuset-cpus",
        "pids": "no --pids-limit",
        "io": "no --device-read-bps and the like",
    }
    found = [main_one]
    for controller, cost in costs.items():
        names = {controller, "blkio"} if controller == "io" else {controller}
        is_here = bool(names & here.controllers)
        remedy = (
            f"enable it: echo +{controller} > cgroup.subtree_control, or cgroup_enable={controller} at boot"
        )
        found.append(Finding(f"controller {controller}", is_here, "", cost, remedy))
    can_restrict = "devices" in here.v1 or bool(here.v2)
    found.append(
        Finding("controller devices", can_restrict, "", "device rules do not apply", "CONFIG_CGROUP_BPF")
    )
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _overlay() -> Finding:
    def act() -> int:
        if _unshare(_NEWNS) < 0:
            return -1
        return syscall(syscalls.number("fsopen"), b"overlay", 0)

    code = attempt(act)
    return Finding(
        "overlay",
        code == 0,
        _reason(code),
        "every container copies its image: slow, and much disk",
        "modprobe overlay (CONFIG_OVERLAY_FS)",
    )


def _seccomp() -> Finding:
    return Finding(
        "seccomp",
        seccomp.is_available(),
        "",
        "containers start only with --security-opt seccomp=unconfined",
        "a kernel with CONFIG_SECCOMP_FILTER",
    )


def _calls() -> list[Finding]:
    """System calls, asked with arguments that cannot work: ENOSYS alone means that there is none."""
    wanted = (
        ("pidfd_open", "5.3", (-1, 0)),
        ("clone3", "5.3", (0, 0)),
        ("openat2", "5.6", (-1, 0, 0, 0)),
        ("close_range", "5.9", (1, 0, 0)),
        ("open_tree", "5.2", (-1, 0, 0)),
        ("mount_setattr", "5.12", (-1, 0, 0, 0, 0)),
    )
    found = []
    for name, since, arguments in wanted:
        ctypes.set_errno(0)
        failed = syscall(syscalls.number(name), *arguments) < 0
        is_here = not failed or ctypes.get_errno() != errno.ENOSYS
        found.append(
            Finding(name, is_here, "", "containers cannot be made", f"Linux {since} or newer", needed=True)
        )
    return found


# -- network: asked by netlink inside a network namespace of the child's own

_NETLINK_NETFILTER: Final = 12
_NFT_GET_GENERATION: Final = 10 << 8 | 16
_NEW_LINK: Final = 16
_REQUEST_ACK: Final = 0x5
_CREATE: Final = 0x600


def _ask(protocol: int, kind: int, flags: int, body: bytes) -> int:
    """Send one netlink message; OSError when it is refused."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as link:
        link.sendto(struct.pack("IHHII", 16 + len(body), kind, flags, 1, 0) + body, (0, 0))
        answer = link.recv(8192)
    if struct.unpack_from("H", answer, 4)[0] == 2:  # NLMSG_ERROR, which an acknowledgement is too
        code = -struct.unpack_from("i", answer, 16)[0]
        if code:
            raise OSError(code, os.strerror(code))
    return 0


def _make_link(kind: bytes) -> int:
    def attribute(number: int, value: bytes) -> bytes:
        return struct.pack("HH", 4 + len(value), number) + value + bytes(-len(value) % 4)

    info = attribute(18, attribute(1, kind))  # IFLA_LINKINFO, IFLA_INFO_KIND
    return _ask(socket.NETLINK_ROUTE, _NEW_LINK, _REQUEST_ACK | _CREATE, bytes(16) + info)


def _network() -> list[Finding]:
    def inside(act: Callable[[], int]) -> int:
        return attempt(lambda: -1 if _unshare(_NEWNET) < 0 else act())

    nft = inside(lambda: _ask(_NETLINK_NETFILTER, _NFT_GET_GENERATION, _REQUEST_ACK, bytes(4)))
    bridge, veth = inside(lambda: _make_link(b"bridge")), inside(lambda: _make_link(b"veth"))
    only_host = "containers have only --network host or none"
    return [
        Finding("bridge", bridge == 0, _reason(bridge), only_host, "modprobe bridge (CONFIG_BRIDGE)"),
        Finding("veth", veth == 0, _reason(veth), only_host, "modprobe veth (CONFIG_VETH)"),
        Finding(
            "nftables",
            nft == 0,
            _reason(nft),
            "no published ports, no way from a bridge to the outside",
            "modprobe nf_tables (CONFIG_NF_TABLES)",
        ),
    ]


def _modules() -> list[Finding]:
    def is_there(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    zstd = is_there("compression.zstd") or is_there("backports.zstd")
    return [
        Finding("isal", is_there("isal"), "", "gzip is several times slower", "pip install isal"),
        Finding("zstd", zstd, "", "no zstd layers", "pip install backports.zstd"),
    ]


COMMANDS = {"check": Command("", "Say whether this machine can run containers", check, most=0)}
