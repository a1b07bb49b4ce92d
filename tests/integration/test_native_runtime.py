"""The native runtime on a real kernel: its contract, what containers see, engine restarts, leaks."""

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from skiff.engine.execution import bundle
from skiff.engine.execution.native import NativeRuntime
from skiff.engine.execution.runtime import AttachRequest, Bundle, EndedEarly, LogConfig, Stdio
from skiff.linux import cgroups, spawn
from skiff.oci.runtime import ConsoleSize, Mount, Process, Spec, User
from skiff.paths import RunPaths
from skiff.runtime.workshop import READY
from tests.contracts.runtime_contract import Make, RuntimeContract, read_all
from tests.fakes import bundles

pytestmark = pytest.mark.root
ENV = ("PATH=/bin",)
WAITING = [*(["skiff-drafter"] if spawn.available() else []), READY]


@pytest.fixture(scope="session")
def lower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.make_root(tmp_path_factory.mktemp("lower"))


@pytest.fixture
def parent(request: pytest.FixtureRequest) -> str:
    return f"/skiff-test-{os.getpid()}-{abs(hash(request.node.name)) % 100000}"


@pytest.fixture
async def runtime(tmp_path: Path, parent: str) -> AsyncIterator[NativeRuntime]:
    runtime = NativeRuntime(RunPaths(str(tmp_path / "run")), parent)
    serving = asyncio.create_task(runtime.run())
    yield runtime
    for task in tuple(runtime._tasks.values()):
        await task.delete(force=True)
    await runtime.close()
    await serving
    assert not [d for d in cgroups.existing(cgroups.layout(), parent).directories() if os.path.exists(d)]


Box = Callable[..., tuple[Bundle, Sequence[Mount], Stdio]]


@pytest.fixture
def box(tmp_path: Path, lower: Path, parent: str) -> Box:
    """A bundle of busybox with Docker's default spec; change: Spec → Spec."""
    numbers = iter(range(100000))

    def make(
        *args: str,
        id: str = "",
        stdio: Stdio = Stdio(),  # noqa: B008
        change: Callable[[Spec], Spec] = lambda spec: spec,
        **how: object,
    ) -> tuple[Bundle, Sequence[Mount], Stdio]:
        id = id or f"c{next(numbers)}"
        spec = bundles.spec(*args, cgroup=f"{parent}/{id}", terminal=stdio.terminal, **how)  # type: ignore[arg-type]
        written = bundle.write(RunPaths(str(tmp_path / "run")), id, change(spec))
        return written, (bundles.overlay(tmp_path / "layers" / id, lower),), stdio

    return make


async def output(
    runtime: NativeRuntime, made: tuple[Bundle, Sequence[Mount], Stdio], **how: bool
) -> tuple[str, int]:
    task = await runtime.create(*made, **how)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(framed=False))
        await task.start()
        text = await read_all(ours)
    code = (await asyncio.wait_for(task.wait(), 10)).code
    await task.delete()
    return text.decode(), code


class TestNativeRuntime(RuntimeContract):
    @pytest.fixture
    def make(self, box: Box) -> Make:
        def make(
            *args: str, terminal: bool = False, stdin: bool = False
        ) -> tuple[Bundle, Sequence[Mount], Stdio]:
            return box(*args, stdio=Stdio(terminal=terminal, stdin=stdin, stdin_once=stdin))

        return make


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_kill_from_outside_before_the_start_is_told(
    runtime: NativeRuntime, box: Box, terminal: bool
) -> None:
    task = await runtime.create(*box("sleep", "60", stdio=Stdio(terminal=terminal)))
    os.kill(task.pid, signal.SIGKILL)
    ended = await asyncio.wait_for(task.wait(), 10)
    assert (ended.code, ended.signal) == (137, 9)
    with pytest.raises(EndedEarly):
        await task.start()
    await task.delete()


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_kill_just_before_the_start_is_not_lost(
    runtime: NativeRuntime, box: Box, terminal: bool
) -> None:
    """Whoever is faster: it never runs on."""
    for _ in range(40):
        task = await runtime.create(*box("sleep", "60", stdio=Stdio(terminal=terminal)))
        os.kill(task.pid, signal.SIGKILL)
        with contextlib.suppress(EndedEarly):
            await task.start()
        assert (await asyncio.wait_for(task.wait(), 10)).code == 137
        await task.delete()


async def test_what_a_container_sees(runtime: NativeRuntime, box: Box) -> None:
    script = (
        "hostname; echo $$; id -u; pwd; cat /proc/self/cgroup | grep -cv ':/$'; ls /proc/self/fd | wc -l;"
        " cat /proc/keys | wc -c; (echo 0 > /proc/sys/kernel/panic) 2>&1 | grep -c Read-only;"
        " ls /sys/firmware | wc -l;"
        " test -c /dev/null && echo null; readlink /dev/fd; grep Seccomp: /proc/self/status"
    )
    text, code = await output(runtime, box("sh", "-c", script))
    assert code == 0
    lines = text.split()
    assert lines[:4] == ["box", "1", "0", "/"]
    assert lines[4:] == ["0", "4", "0", "1", "0", "null", "/proc/self/fd", "Seccomp:", "2"]


async def test_the_host_sees_no_mount_and_no_open_file(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("sleep", "60"))
    await task.start()
    assert "skiff-test" not in Path("/proc/self/mountinfo").read_text()
    assert str(task.id) not in "".join(
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "overlay" in line
    )
    held = {os.readlink(f"/proc/{task.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{task.pid}/fd")}
    assert len(held) <= 3
    assert os.readlink(f"/proc/{task.pid}/exe") == "/bin/busybox"


async def test_binds_are_made_inside_the_root(runtime: NativeRuntime, box: Box, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    (tmp_path / "dir").mkdir()
    mounts = (
        Mount("/new/deep/file", "bind", str(tmp_path / "file"), ("rbind", "ro")),
        Mount("/new/dir", "bind", str(tmp_path / "dir"), ("rbind",)),
        Mount("/t", "tmpfs", "tmpfs", ("size=1m", "tmpcopyup")),
    )
    script = (
        "cat /new/deep/file; (echo x > /new/deep/file) 2>&1 | grep -c Read; echo y > /new/dir/made; ls -d /t"
    )
    text, code = await output(runtime, box("sh", "-c", script, mounts=mounts))
    assert (text, code) == ("from the host1\n/t\n", 0)
    assert (tmp_path / "dir/made").read_text() == "y\n"
    assert (tmp_path / "file").read_text() == "from the host"


async def test_a_symlink_does_not_lead_a_mount_out(
    runtime: NativeRuntime, box: Box, tmp_path: Path, lower: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    made, rootfs, stdio = box("ls", "/evil/", mounts=(Mount("/evil/etc2", "tmpfs", "tmpfs", ()),), id="evil")
    os.symlink(str(outside), tmp_path / "layers/evil/upper/evil")
    text, code = await output(runtime, (made, rootfs, stdio))
    assert not list(outside.iterdir())
    assert (text, code) == ("etc2\n", 0)


async def test_a_user_owns_its_streams_and_has_no_rights(runtime: NativeRuntime, box: Box) -> None:
    script = (
        "id -u; id -g; echo ok > /dev/stdout; grep CapEff /proc/self/status; touch /x 2>&1 | grep -c denied"
    )
    text, code = await output(runtime, box("sh", "-c", script, user=User(uid=1000, gid=1000)))
    assert text.split() == ["1000", "1000", "ok", "CapEff:", "0000000000000000", "1"]
    assert code == 0


async def test_a_terminal(runtime: NativeRuntime, box: Box) -> None:
    stdio = Stdio(terminal=True, stdin=True, size=ConsoleSize(height=33, width=99))
    task = await runtime.create(
        *box("sh", "-c", "stty size; tty; read x; stty size; echo got $x", stdio=stdio)
    )
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(stdin=True, framed=False))
        await task.start()
        await asyncio.sleep(0.1)
        await task.resize(50, 120)
        ours.send(b"word\n")
        text = (await read_all(ours)).decode()
    assert (await task.wait()).code == 0
    assert "33 99\r\n/dev/console" in text.replace("/dev/pts/0", "/dev/console")
    assert "50 120\r\ngot word\r\n" in text
    await task.delete()


async def test_detach_keys_leave_the_container_running(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("cat", stdio=Stdio(terminal=True, stdin=True)))
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(stdin=True, framed=False, detach_keys=b"\x10\x11"))
        await task.start()
        ours.send(b"ab")
        assert await asyncio.get_running_loop().run_in_executor(None, ours.recv, 10) == b"ab"
        ours.send(b"\x10c\x10\x11")
        await read_all(ours)
    assert task.pid in await task.processes()
    await task.delete(force=True)


async def test_a_terminal_for_exec(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("sleep", "60"))
    await task.start()
    ours, theirs = socket.socketpair()
    with ours:
        process = await task.exec(
            "t",
            Process(args=("sh", "-c", "tty; stty size; cat /proc/1/comm"), env=ENV, terminal=True),
            Stdio(terminal=True, stdin=True, size=ConsoleSize(height=20, width=70)),
            stream=theirs,
            request=AttachRequest(framed=False),
        )
        text = (await read_all(ours)).decode()
    assert text == "/dev/pts/0\r\n20 70\r\nsleep\r\n"
    assert await process.wait() == 0
    await task.delete(force=True)


async def test_init_reaps_forwards_and_returns_the_code(runtime: NativeRuntime, box: Box) -> None:
    text, code = await output(runtime, box("sh", "-c", "cat /proc/1/comm; echo $$; exit 5"), init=True)
    assert (text.split(), code) == (["skiff-init", "2"], 5)
    task = await runtime.create(
        *box("sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 1; done"), init=True
    )
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(framed=False))
        await task.start()
        assert await asyncio.get_running_loop().run_in_executor(None, ours.recv, 10) == b"up\n"
        await task.signal(15)
        assert (await asyncio.wait_for(task.wait(), 10)).code == 9
    await task.delete()


async def test_without_a_pid_namespace_nothing_survives(runtime: NativeRuntime, box: Box) -> None:
    made = box("sh", "-c", "sleep 1234 & echo up", namespaces=("network", "ipc", "uts", "mount"))
    text, code = await output(runtime, made)
    assert (text, code) == ("up\n", 0)


async def test_an_engine_restart_finds_running_and_exited_tasks(
    runtime: NativeRuntime, box: Box, tmp_path: Path, parent: str
) -> None:
    running = await runtime.create(*box("sleep", "60", id="running"))
    ending = await runtime.create(*box("sh", "-c", "sleep 0.2; exit 4", id="ending"))
    await running.start()
    await ending.start()
    await runtime.close()

    second = NativeRuntime(RunPaths(str(tmp_path / "run")), parent)
    try:
        found = await second.load("running")
        assert found is not None and found.pid == running.pid
        process = await found.exec("e", Process(args=("true",), env=ENV), Stdio())
        assert await process.wait() == 0
        await asyncio.sleep(0.5)
        gone = await second.load("ending")
        assert gone is not None
        ended = await asyncio.wait_for(anext(second.exits()), 5)
        assert (ended.id, ended.code) == ("ending", 4)
        assert await gone.wait() == ended
        await gone.delete()
        await found.signal(9)
        assert (await asyncio.wait_for(found.wait(), 5)).code == 137
        await found.delete()
    finally:
        await second.close()


async def test_a_dead_zygote_is_replaced(runtime: NativeRuntime, box: Box) -> None:
    assert (await output(runtime, box("echo", "1")))[0] == "1\n"
    assert runtime._zygote is not None
    os.kill(runtime._zygote.pid, 9)
    await runtime._zygote.died.wait()
    assert (await output(runtime, box("echo", "2")))[0] == "2\n"


async def test_a_slow_client_loses_nothing(runtime: NativeRuntime, box: Box, tmp_path: Path) -> None:
    log = LogConfig(path=str(tmp_path / "log"))
    task = await runtime.create(*box("seq", "1", "500000", stdio=Stdio(log=log)))
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(framed=False))
        await task.start()
        await asyncio.sleep(0.3)
        text = await read_all(ours)
    assert text == b"".join(b"%d\n" % n for n in range(1, 500001))
    assert (await task.wait()).code == 0
    await task.delete()
    with open(tmp_path / "log", "rb") as file:
        assert sum(1 for _ in file) == 500000


async def test_nothing_is_left_after_many_containers(
    runtime: NativeRuntime, box: Box, parent: str, tmp_path: Path
) -> None:
    await output(runtime, box("true"))
    assert runtime._zygote is not None
    zygote = runtime._zygote.pid

    def counts() -> tuple[int, int, int]:
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        return (
            len(os.listdir(f"/proc/{zygote}/fd")),
            len(os.listdir("/proc/self/fd")),
            len(children),
        )

    def mounts() -> list[str]:
        """Ours: all that a container mounts comes from its box."""
        table = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in table if str(tmp_path) in line]

    await asyncio.sleep(0.1)
    before = counts()
    for number in range(200):
        made, rootfs, stdio = box("true", id=f"n{number % 7}")
        task = await runtime.create(made, rootfs, stdio)
        await task.start()
        assert (await task.wait()).code == 0
        await task.delete()
    await asyncio.sleep(0.2)
    assert counts() == before
    assert not mounts()
    for directory in cgroups.existing(cgroups.layout(), parent).directories():
        left = [entry.name for entry in os.scandir(directory) if entry.is_dir()]
        assert not left


async def test_a_monitor_sleeps_for_the_next_container(runtime: NativeRuntime, box: Box) -> None:
    for expected in ("1", "2"):
        assert (await output(runtime, box("echo", expected)))[0] == f"{expected}\n"
        await asyncio.sleep(0.1)
        assert sorted(map(comm, children_of_zygote(runtime))) == WAITING


@pytest.mark.parametrize("victim", WAITING)
async def test_what_waits_may_die(runtime: NativeRuntime, box: Box, victim: str) -> None:
    await output(runtime, box("true"))
    await asyncio.sleep(0.1)
    pid = next(pid for pid in children_of_zygote(runtime) if comm(pid) == victim)
    gone = os.pidfd_open(pid)
    os.kill(pid, 9)
    await asyncio.to_thread(select.select, [gone], [], [], 10)
    os.close(gone)
    assert await output(runtime, box("echo", "all the same")) == ("all the same\n", 0)


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def children_of_zygote(runtime: NativeRuntime) -> list[int]:
    assert runtime._zygote is not None
    zygote = runtime._zygote.pid
    return [int(child) for child in Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()]


def copied_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if "Anonymous:" in line)


@pytest.mark.skipif(spawn.available() is None, reason="nothing can be spawned here")
async def test_a_monitor_gives_back_what_its_start_has_copied(runtime: NativeRuntime, box: Box) -> None:
    task = await runtime.create(*box("cat", stdio=Stdio(stdin=True, stdin_once=True)))
    await task.start()
    monitor = int(Path(f"/proc/{task.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    at_first = copied_bytes(monitor)
    for _ in range(100):
        if copied_bytes(monitor) < at_first - 256 * 1024:
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError(f"{copied_bytes(monitor)} bytes of {at_first}")
    ours, theirs = socket.socketpair()
    with ours:
        await task.attach(theirs, AttachRequest(stdin=True, framed=False))
        ours.sendall(b"still here\n")
        ours.shutdown(socket.SHUT_WR)
        assert await read_all(ours) == b"still here\n"
    assert (await asyncio.wait_for(task.wait(), 10)).code == 0
