"""Spawned processes and inits are what forked ones are: both are made, and what they see is compared."""

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from skiff.engine.execution.native import NativeRuntime
from skiff.engine.execution.runtime import AttachRequest, Stdio
from skiff.errors import SkiffError
from skiff.oci.runtime import Capabilities, Device, Mount, Process, Rlimit, Root, Spec, User
from tests.contracts.runtime_contract import read_all
from tests.fakes import bundles
from tests.integration.test_native_runtime import (  # noqa: F401
    ENV,
    Box,
    box,
    lower,
    output,
    parent,
    runtime,
)

pytestmark = pytest.mark.root

SEEN = r"""
exec 2>&1
for file in environ limits cgroup oom_score_adj; do echo "== $file"; tr '\0' '\n' < /proc/self/$file; done
echo == namespaces; for one in mnt pid uts ipc net cgroup user; do readlink /proc/self/ns/$one; done
echo == status; grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig[BIC]|Umask|TracerPid)' /proc/self/status
echo == fds; ls /proc/$$/fd
echo == here; pwd; umask; id -u; [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leads its session
"""
FORKED = {"class": "IOPRIO_CLASS_BE", "priority": 4}  # what everybody has; a spawned child cannot be given it


@pytest.mark.parametrize(
    "wish",
    [
        Process(),
        Process(cwd="/tmp", user=User(uid=1000, gid=100, additional_gids=(7, 8), umask=0o027)),
        Process(user=User(uid=7), capabilities=Capabilities(*[("CAP_CHOWN", "CAP_KILL")] * 5)),
        Process(no_new_privileges=True, oom_score_adj=500, env=("A=b c", "HOME=/tmp", "no", "A=d")),
        Process(rlimits=(Rlimit("RLIMIT_NOFILE", hard=200, soft=100), Rlimit("RLIMIT_CORE", 0, 0))),
    ],
    ids=["plain", "a user", "capabilities", "no new privileges", "limits"],
)
async def test_a_spawned_process_is_what_a_forked_one_is(
    runtime: NativeRuntime,  # noqa: F811
    box: Box,  # noqa: F811
    wish: Process,
) -> None:
    task = await runtime.create(*box("sleep", "60"))
    await task.start()
    seen = []
    for name, priority in (("spawned", None), ("forked", FORKED)):
        process = structs.replace(wish, args=("sh", "-c", SEEN), env=(*ENV, *wish.env), io_priority=priority)
        ours, theirs = socket.socketpair()
        with ours:
            running = await task.exec(
                name, process, Stdio(), stream=theirs, request=AttachRequest(framed=False)
            )
            seen.append((await read_all(ours)).decode())
        assert await running.wait() == 0
    assert seen[0] == seen[1]
    assert "leads its session" in seen[0]
    await task.delete(force=True)


MORE = r"""
echo == mounts
cut -d' ' -f4- /proc/self/mountinfo | sed -E 's/(master|shared):[0-9]+/\\1/; s/[^,= ]*layers[^, ]*//g' | sort
echo == dev; ls -lR /dev | sed -E 's/ [A-Z][a-z]{2} [ 0-9:]+ / /'
echo == names; hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/msgmax
echo == masked; head -c 9 /proc/kcore 2>&1; ls -a /proc/acpi /sys/firmware
cat /etc/passwd; ls /bin | wc -l
echo x > /proc/sys/kernel/msgmax; touch /tmp/x; touch /x
echo == network; grep -c : /proc/net/dev; cat /sys/class/net/lo/operstate; echo == groups; ls /sys/fs/cgroup
echo == init; ls -ld /proc/1/cwd /proc/1/root; ls /proc
"""


def process_with(**changes: object) -> Callable[[Spec], Spec]:
    def change(spec: Spec) -> Spec:
        assert spec.process is not None
        return structs.replace(spec, process=structs.replace(spec.process, **changes))

    return change


def linux_with(**changes: object) -> Callable[[Spec], Spec]:
    def change(spec: Spec) -> Spec:
        assert spec.linux is not None
        return structs.replace(spec, linux=structs.replace(spec.linux, **changes))

    return change


def spec_with(**changes: object) -> Callable[[Spec], Spec]:
    return lambda spec: structs.replace(spec, **changes)


def mounted(*mounts: Mount) -> Callable[[Spec], Spec]:
    return lambda spec: structs.replace(spec, mounts=(*spec.mounts, *mounts))


def _anonymous(line: str) -> str:
    """Without the number of a namespace."""
    return re.sub(r":\[\d+\]", "", line)


@pytest.mark.parametrize(
    "change",
    [
        spec_with(),
        process_with(cwd="/made/for/it", user=User(uid=1000, gid=7)),
        process_with(no_new_privileges=True, rlimits=(Rlimit("RLIMIT_NOFILE", hard=200, soft=100),)),
        spec_with(hostname="here", domainname="there", root=Root("rootfs", readonly=True)),
        linux_with(sysctl={"kernel.msgmax": "4321"}, rootfs_propagation="private"),
        linux_with(masked_paths=("/usr", "/etc/passwd", "/absent"), readonly_paths=("/tmp", "/absent")),
        linux_with(devices=(Device("/dev/my/zero", "c", 1, 5, 0o640, 3, 4), Device("/dev/x", "p"))),
        mounted(
            Mount("/mnt/deep/er", "bind", "/usr/share", ("rbind", "ro", "rprivate")),
            Mount("/etc/hosts", "bind", "/etc/hostname", ("bind", "ro")),
            Mount("/made/file", "bind", "/etc/hostname", ("rbind", "nosuid", "noatime")),
            Mount("/run/x", "tmpfs", "tmpfs", ("nosuid", "size=1m", "mode=700")),
            Mount("/run/x/y/z", "tmpfs", "tmpfs", ("noexec",)),
            Mount("/rro", "bind", "/usr/share", ("rbind", "rro", "rslave")),
        ),
    ],
    ids=["plain", "a user", "limits", "names", "a sysctl", "paths", "devices", "mounts"],
)
async def test_a_spawned_init_is_what_a_built_one_is(
    runtime: NativeRuntime,  # noqa: F811
    box: Box,  # noqa: F811
    change: Callable[[Spec], Spec],
) -> None:
    spawned = await output(runtime, box("sh", "-c", SEEN + MORE, change=change))
    built = process_with(io_priority=FORKED)
    again = box("sh", "-c", SEEN + MORE, change=lambda spec: built(change(spec)))
    forked = await output(runtime, again)
    assert [_anonymous(line) for line in spawned[0].splitlines()] == [
        _anonymous(line) for line in forked[0].splitlines()
    ]
    assert spawned[1] == forked[1]
    assert "== init" in spawned[0]


@pytest.mark.parametrize("volatile", [False, True])
async def test_a_program_that_cannot_start_is_told_as_ever(
    runtime: NativeRuntime,  # noqa: F811
    box: Box,  # noqa: F811
    lower: Path,  # noqa: F811
    tmp_path: Path,
    volatile: bool,
) -> None:
    for args, expected in (
        (("absent",), 'exec: "absent": executable file not found in $PATH'),
        (("/absent",), 'exec: "/absent": stat /absent: no such file or directory'),
        (("/tmp",), 'exec: "/tmp": is a directory: permission denied'),
    ):
        made, _, stdio = box(*args)
        root = bundles.overlay(tmp_path / made.id, lower, volatile=volatile)
        task = await runtime.create(made, (root,), stdio)
        with pytest.raises(SkiffError, match=re.escape(expected)):
            await task.start()
        await task.delete(force=True)


async def test_a_file_of_an_unknown_format_is_started_by_a_fork(
    runtime: NativeRuntime,  # noqa: F811
    box: Box,  # noqa: F811
    tmp_path: Path,
) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter is named here")
    script.chmod(0o755)
    task = await runtime.create(*box("/x", change=mounted(Mount("/x", "bind", str(script), ("bind",)))))
    before = task.pid
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(framed=False))
        await task.start()
        assert await read_all(ours) == b"exec /x: exec format error\n"
    assert task.pid != before
    assert (await task.wait()).code == 255
    await task.delete()


async def test_what_cannot_be_executed_is_told_as_ever(
    runtime: NativeRuntime,  # noqa: F811
    box: Box,  # noqa: F811
) -> None:
    task = await runtime.create(*box("sh", "-c", "echo not a program > /tmp/x; chmod +x /tmp/x; sleep 60"))
    await task.start()
    await asyncio.sleep(0.2)
    for args, cwd, expected in (
        (("absent",), "/", 'exec: "absent": executable file not found in $PATH'),
        (("/absent",), "/", 'exec: "/absent": stat /absent: no such file or directory'),
        (("/tmp",), "/", 'exec: "/tmp": is a directory: permission denied'),
        (("true",), "/absent", 'chdir to cwd ("/absent") set in config.json failed'),
        (("true",), "/proc/self/fd/4", "chdir to cwd"),
    ):
        with pytest.raises(SkiffError, match=re.escape(expected)):
            await task.exec("x", Process(args=args, env=ENV, cwd=cwd), Stdio())
    broken = await task.exec("broken", Process(args=("/tmp/x",), env=ENV), Stdio())
    assert await broken.wait() == 255
    fine = await task.exec("fine", Process(args=("true",), env=ENV), Stdio())
    assert await fine.wait() == 0
    assert len(await task.processes()) == 1
    await task.delete(force=True)
