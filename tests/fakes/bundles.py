"""A busybox root and a spec like Docker's default, for tests and benchmarks of the runtime."""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import structs

from skiff.linux import syscalls
from skiff.oci.runtime import (
    Capabilities,
    DeviceRule,
    Linux,
    Mount,
    Namespace,
    PidsLimits,
    Process,
    Resources,
    Root,
    Seccomp,
    Spec,
    SyscallRule,
    User,
)

BUSYBOX = next(
    (p for p in ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox-static") if os.path.exists(p)), ""
)
CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)
NOSUID = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount("/proc", "proc", "proc", NOSUID),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount(
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount("/sys", "sysfs", "sysfs", (*NOSUID, "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*NOSUID, "ro")),
    Mount("/dev/mqueue", "mqueue", "mqueue", NOSUID),
    Mount("/dev/shm", "tmpfs", "shm", (*NOSUID, "mode=1777", "size=67108864")),
)
MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEVICES = (
    DeviceRule(allow=False),
    *(
        DeviceRule(True, kind, major, minor, access)
        for kind, major, minor, access in (
            ("c", None, None, "m"),
            ("b", None, None, "m"),
            ("c", 1, 3, "rwm"),
            ("c", 1, 5, "rwm"),
            ("c", 1, 7, "rwm"),
            ("c", 1, 8, "rwm"),
            ("c", 1, 9, "rwm"),
            ("c", 5, 0, "rwm"),
            ("c", 5, 2, "rwm"),
            ("c", 136, None, "rwm"),
        )
    ),
)
REFUSED = ("mount", "umount2", "bpf", "kexec_load", "init_module", "delete_module", "ptrace", "keyctl")


def seccomp() -> Seccomp:
    """As large as Docker's: everything by name but a few."""
    names = tuple(sorted(name for name in syscalls.numbers("x86_64") if name not in REFUSED))
    return Seccomp(
        "SCMP_ACT_ERRNO",
        architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
        syscalls=(SyscallRule(names, "SCMP_ACT_ALLOW"),),
    )


def make_root(path: Path) -> Path:
    """A directory with busybox and its applets."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/user"):
        (path / name).mkdir(parents=True, exist_ok=True)
    os.chmod(path / "tmp", 0o1777)
    os.chown(path / "home/user", 1000, 1000)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in [
        "sh",
        "true",
        "false",
        "cat",
        "echo",
        "sleep",
        "id",
        "ls",
        "env",
        "wc",
        "yes",
        "head",
        "dd",
        "seq",
        "stty",
        "hostname",
        "mount",
        "ps",
        "kill",
        "pwd",
        "test",
        "mkdir",
        "touch",
        "readlink",
        "stat",
        "grep",
        "tr",
        "dmesg",
        "tty",
        "trap",
        "printf",
        "rm",
        "chmod",
    ]:
        if not (path / "bin" / applet).exists():
            os.symlink("busybox", path / "bin" / applet)
    (path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    return path


def overlay(path: Path, lower: Path, *, volatile: bool = False) -> Mount:
    """A fresh writable layer over a root."""
    for name in ("upper", "work"):
        (path / name).mkdir(parents=True, exist_ok=True)
    places = (f"lowerdir={lower}", f"upperdir={path}/upper", f"workdir={path}/work")
    return Mount("/", "overlay", "overlay", (*places, *(("volatile",) if volatile else ())))


def spec(
    *args: str,
    cgroup: str,
    terminal: bool = False,
    mounts: Iterable[Mount] = (),
    namespaces: Sequence[str] = ("pid", "network", "ipc", "uts", "mount", "cgroup"),
    env: tuple[str, ...] = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",),
    user: User = User(),  # noqa: B008
    readonly: bool = False,
    with_seccomp: bool = True,
) -> Spec:
    """A spec as Docker writes it by default."""
    all_caps = Capabilities(bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES)
    if user.uid:
        all_caps = structs.replace(all_caps, effective=(), permitted=())
    return Spec(
        oci_version="1.2.0",
        process=Process(args=args, env=env, terminal=terminal, user=user, capabilities=all_caps),
        root=Root("rootfs", readonly=readonly),
        hostname="box" if "uts" in namespaces else "",
        mounts=(*MOUNTS, *mounts),
        linux=Linux(
            cgroups_path=cgroup,
            namespaces=tuple(Namespace(kind) for kind in namespaces),
            resources=Resources(devices=DEVICES, pids=PidsLimits(2048)),
            masked_paths=MASKED,
            readonly_paths=READONLY,
            seccomp=seccomp() if with_seccomp else None,
        ),
    )
