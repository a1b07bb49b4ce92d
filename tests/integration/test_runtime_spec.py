"""What a runtime spec can ask for beyond Docker's defaults, on a real kernel."""

# ruff: noqa: F811 (fixtures of the neighbour)

import asyncio
import json
import os
import socket
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from skiff.engine.execution.native import NativeRuntime
from skiff.engine.execution.runtime import AttachRequest, RuntimeFailure, Stdio
from skiff.errors import Conflict
from skiff.linux import cgroups
from skiff.oci.runtime import (
    Hook,
    Hooks,
    IdMapping,
    Linux,
    MemoryLimits,
    Mount,
    Namespace,
    PidsLimits,
    Process,
    Resources,
    Spec,
)
from skiff.runtime.isolation import create, join
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
MAPS = (IdMapping(container_id=0, host_id=200000, size=65536),)


def changed(**fields: object) -> Callable[[Spec], Spec]:
    """A change of spec.linux."""
    return lambda spec: structs.replace(spec, linux=structs.replace(spec.linux or Linux(), **fields))


def with_user(spec: Spec) -> Spec:
    linux = spec.linux or Linux()
    kinds = (*linux.namespaces, Namespace("user"))
    return structs.replace(
        spec, linux=structs.replace(linux, namespaces=kinds, uid_mappings=MAPS, gid_mappings=MAPS)
    )


async def test_a_user_namespace(runtime: NativeRuntime, box: Box, lower: Path) -> None:
    made = box("sh", "-c", "id -u; cat /proc/self/uid_map; (echo > /dev/null) && echo null", change=with_user)
    text, code = await output(runtime, made)
    assert code == 0, text
    assert text.split() == ["0", "0", "200000", "65536", "null"]


async def test_an_exec_in_a_user_namespace(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("sleep", "60", change=with_user))
    await task.start()
    assert os.stat(f"/proc/{task.pid}").st_uid == 200000
    ours, theirs = socket.socketpair()
    with ours:
        await task.exec(
            "e",
            Process(args=("id", "-u"), env=ENV),
            Stdio(),
            stream=theirs,
            request=AttachRequest(framed=False),
        )
        assert (await read_all(ours)).strip() == b"0"
    await task.delete(force=True)


async def test_an_idmapped_bind(runtime: NativeRuntime, box: Box, tmp_path: Path) -> None:
    source = tmp_path / "shared"
    source.mkdir()
    os.chmod(source, 0o777)
    (source / "file").write_text("x")
    os.chown(source / "file", 0, 0)
    bind = Mount("/shared", "bind", str(source), ("rbind", "rw"), uid_mappings=MAPS, gid_mappings=MAPS)
    text, code = await output(runtime, box("sh", "-c", "stat -c %u /shared/file", mounts=(bind,)))
    assert (text, code) == ("200000\n", 0)


async def test_namespaces_by_path(runtime: NativeRuntime, box: Box) -> None:
    first = await runtime.create(*box("sleep", "60"))
    await first.start()
    at = f"/proc/{first.pid}/ns"

    def shared(spec: Spec) -> Spec:
        kinds = (
            *(
                Namespace(kind, f"{at}/{name}")
                for kind, name in (("network", "net"), ("uts", "uts"), ("pid", "pid"))
            ),
            *(Namespace(kind) for kind in ("mount", "ipc", "cgroup")),
        )
        return structs.replace(changed(namespaces=kinds)(spec), hostname="")

    text, code = await output(
        runtime, box("sh", "-c", "readlink /proc/self/ns/net; hostname; cat /proc/1/comm", change=shared)
    )
    assert code == 0
    assert text.split() == [os.readlink(f"{at}/net"), "box", "sleep"]
    await first.delete(force=True)


async def test_a_namespace_path_that_is_not_there(runtime: NativeRuntime, box: Box) -> None:
    kinds = (Namespace("network", "/no/such"), Namespace("mount"))
    with pytest.raises(RuntimeFailure, match="/no/such"):
        await runtime.create(
            *box("true", change=lambda s: structs.replace(changed(namespaces=kinds)(s), hostname=""))
        )


async def test_hooks_of_an_engine_s_container(runtime: NativeRuntime, box: Box, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def hook(name: str) -> Hook:
        return Hook("/bin/sh", args=("sh", "-c", f"echo {name} $(cat) >> {log}"))

    def change(spec: Spec) -> Spec:
        hooks = Hooks(
            prestart=(hook("prestart"),),
            create_runtime=(hook("createRuntime"),),
            create_container=(hook("createContainer"),),
            poststart=(hook("poststart"),),
            poststop=(hook("poststop"),),
        )
        return structs.replace(spec, hooks=hooks)

    text, code = await output(runtime, box("echo", "ran", id="hooked", change=change))
    assert (text, code) == ("ran\n", 0)
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ]
    states = {name: json.loads(state) for name, state in lines}
    assert {state["id"] for state in states.values()} == {"hooked"}
    assert states["createRuntime"]["status"] == "creating"
    assert states["createRuntime"]["pid"] > 0
    assert states["poststop"]["status"] == "stopped"


@pytest.mark.parametrize("moment", ["create_runtime", "create_container"])
async def test_a_failing_hook_undoes_everything(moment: str, runtime: NativeRuntime, box: Box) -> None:
    bad = Hook("/bin/sh", args=("sh", "-c", "echo no way >&2; exit 3"))
    change = lambda spec: structs.replace(spec, hooks=Hooks(**{moment: (bad,)}))  # noqa: E731
    with pytest.raises(RuntimeFailure, match="exit status 3: no way"):
        await runtime.create(*box("true", change=change))


async def test_a_hook_that_takes_too_long_is_ended(runtime: NativeRuntime, box: Box) -> None:
    slow = Hook("/bin/sleep", args=("sleep", "60"), timeout=1)
    change = lambda spec: structs.replace(spec, hooks=Hooks(prestart=(slow,)))  # noqa: E731
    with pytest.raises(RuntimeFailure, match="no end after 1 s"):
        await runtime.create(*box("true", change=change))


async def test_stdin_can_be_closed_from_outside(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("cat", stdio=Stdio(stdin=True)))
    await task.start()
    await task.close_stdin()
    assert (await asyncio.wait_for(task.wait(), 5)).code == 0
    await task.delete()


async def test_a_large_process_goes_by_file(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("sleep", "60"))
    await task.start()
    ours, theirs = socket.socketpair()
    big = tuple(f"VAR{n}={'x' * 1000}" for n in range(100))
    with ours:
        await task.exec(
            "big",
            Process(args=("sh", "-c", "env | grep -c ^VAR"), env=(*ENV, *big)),
            Stdio(),
            stream=theirs,
            request=AttachRequest(framed=False),
        )
        assert (await read_all(ours)).strip() == b"100"
    assert not [name for name in os.listdir(task.bundle) if name.startswith("process-")]
    await task.delete(force=True)


async def test_limits_are_updated(runtime: NativeRuntime, box: Box, parent: str) -> None:
    task = await runtime.create(*box("sleep", "60", id="limited"))
    await task.start()
    await task.update(Resources(pids=PidsLimits(9), memory=MemoryLimits(limit=64 << 20)))
    group = cgroups.existing(cgroups.layout(), f"{parent}/limited")
    assert group.read("pids", "pids.max").strip() == "9"
    assert group.read("memory", "memory.limit_in_bytes").strip() == str(64 << 20)
    with pytest.raises(Conflict, match="below the current use"):
        await task.update(Resources(memory=MemoryLimits(limit=4096, check_before_update=True)))
    await task.delete(force=True)


async def test_want_of_memory_is_news(runtime: NativeRuntime, box: Box) -> None:
    limits = Resources(memory=MemoryLimits(limit=16 << 20, swap=16 << 20))
    task = await runtime.create(
        *box("sh", "-c", "x=a; while true; do x=$x$x; done", change=changed(resources=limits))
    )
    await task.start()
    ended = await asyncio.wait_for(task.wait(), 10)
    assert (ended.code, ended.oom_killed, task.oom_killed) == (137, True, True)
    await task.delete()


async def test_a_recursively_read_only_bind(runtime: NativeRuntime, box: Box, tmp_path: Path) -> None:
    (tmp_path / "a/below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", tmp_path / "a/below"], check=True)
    try:
        for option, verdict in (("rro", "refused"), ("ro", "written")):
            bind = Mount("/a", "bind", str(tmp_path / "a"), ("rbind", option))
            script = (
                "touch /a/x 2>/dev/null && echo top; touch /a/below/x 2>&1 && echo written || echo refused"
            )
            text, _ = await output(runtime, box("sh", "-c", script, mounts=(bind,)))
            assert text.split()[-1] == verdict
    finally:
        subprocess.run(["umount", tmp_path / "a/below"], check=True)


@pytest.mark.parametrize(
    ("option", "mark"), [("rshared", "shared:"), ("rslave", "master:"), ("rprivate", "")]
)
async def test_propagation(option: str, mark: str, runtime: NativeRuntime, box: Box, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "place", place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    try:
        bind = Mount("/p", "bind", str(place), ("rbind", option))
        text, _ = await output(runtime, box("grep", " /p ", "/proc/self/mountinfo", mounts=(bind,)))
        optional = text.split(" - ")[0].split()[6:]
        assert [word for word in optional if mark and word.startswith(mark)] or (not mark and not optional)
    finally:
        subprocess.run(["umount", place], check=True)


async def test_a_volatile_root_can_be_mounted_again(runtime: NativeRuntime, box: Box) -> None:
    bundle, (root,), stdio = box("touch", "/made")
    volatile = structs.replace(root, options=(*root.options, "volatile"))
    assert (await output(runtime, (bundle, (volatile,), stdio)))[1] == 0
    upper = next(option for option in root.options if option.startswith("upperdir="))
    assert Path(upper.partition("=")[2], "made").exists()


async def test_an_unknown_seccomp_flag_is_refused(runtime: NativeRuntime, box: Box) -> None:
    profile = structs.replace(bundles.seccomp(), flags=("SECCOMP_FILTER_FLAG_NONSENSE",))
    with pytest.raises(RuntimeFailure, match="unknown seccomp flag"):
        await runtime.create(*box("true", change=changed(seccomp=profile)))


def in_a_child(act: Callable[[], None]) -> None:
    """In a process without threads, as a monitor is: else its mount namespace could not be left and found."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_container_on_v2_alone(tmp_path: Path, lower: Path) -> None:
    """The pure v2 path: born in its group, frozen, killed by one write."""
    here = cgroups.layout()
    if not here.v2:
        pytest.skip("cgroup2 is not mounted")
    alone = cgroups.Layout({}, here.v2, frozenset())
    assert alone.version == 2
    path = f"/skiff-test-v2-{os.getpid()}"
    spec = bundles.spec("sleep", "60", cgroup=path, mounts=())
    spec = structs.replace(
        spec,
        mounts=tuple(m for m in spec.mounts if m.type != "cgroup"),
        linux=structs.replace(spec.linux or Linux(), resources=None),
    )

    def live() -> None:
        null = os.open("/dev/null", os.O_RDWR)
        container = create.create(
            id="v2",
            bundle=str(tmp_path),
            spec=spec,
            streams=create.Streams(stdin=null, stdout=null, stderr=null),
            rootfs_mounts=(bundles.overlay(tmp_path / "layer", lower),),
            here=alone,
        )
        try:
            create.start(container)
            group = container.group
            assert group.pids() == [container.pid]
            group.freeze()
            assert group.is_frozen()
            group.thaw()
            joined = join.join(
                container,
                Process(args=("sleep", "60"), env=ENV),
                create.Streams(stdin=null, stdout=null, stderr=null),
            )
            assert sorted(group.pids()) == sorted([container.pid, joined.pid])
            group.signal_all(9)
            assert os.waitpid(joined.pid, 0)[1] == 9
            assert os.waitpid(container.pid, 0)[1] == 9
            os.close(joined.pidfd)
        finally:
            container.group.destroy()
            os.close(null)
        assert not container.group.exists()

    in_a_child(live)
