"""Control groups: the layout from mountinfo text, writes into a make-believe hierarchy, and the real one."""

import os
import select
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.errors import InvalidParameter
from skiff.linux import cgroups
from skiff.linux.cgroups import Layout
from skiff.linux.processes import clone

LINE = "30 24 0:26 {root} {point} rw,nosuid - {kind} {source} {options}"


def mountinfo(*rows: tuple[str, str, str]) -> str:
    return "".join(
        LINE.format(root="/", point=point, kind=kind, source=kind, options=options) + "\n"
        for point, kind, options in rows
    )


@pytest.mark.parametrize(
    ("text", "v1", "v2", "version"),
    [
        (mountinfo(("/cg", "cgroup2", "rw")), {}, "/cg", 2),
        (
            mountinfo(
                ("/cg/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
                ("/cg/systemd", "cgroup", "rw,xattr,name=systemd"),
                ("/cg/unified", "cgroup2", "rw"),
                ("/tmp", "tmpfs", "rw,cpu"),
            ),
            {"cpu": "/cg/cpu,cpuacct", "cpuacct": "/cg/cpu,cpuacct", "name=systemd": "/cg/systemd"},
            "/cg/unified",
            1,
        ),
        (
            mountinfo(("/cg/systemd", "cgroup", "rw,name=systemd"), ("/cg/unified", "cgroup2", "rw")),
            {"name=systemd": "/cg/systemd"},
            "/cg/unified",
            2,
        ),
        (mountinfo(("/a\\040b", "cgroup", "rw,memory")), {"memory": "/a b"}, "", 1),
        ("", {}, "", 1),
    ],
)
def test_layout(text: str, v1: dict[str, str], v2: str, version: int) -> None:
    here = cgroups.layout(text)
    assert (here.v1, here.v2, here.version) == (v1, v2, version)


@given(st.text(max_size=300))
def test_any_text_is_a_layout(text: str) -> None:
    cgroups.layout(text)
    cgroups.layout(text + " - cgroup x y")


@pytest.mark.parametrize(
    ("path", "expected"), [("/a/b", "/a/b"), ("a", "/a"), ("//a/./b/", "/a/b"), ("/a:b:c", "/a:b:c")]
)
def test_paths(path: str, expected: str) -> None:
    assert cgroups.checked_path(path) == expected


@pytest.mark.parametrize("path", ["", "/", "/a/../b", "system.slice:docker:abc", "a\0b"])
def test_paths_refused(path: str) -> None:
    with pytest.raises(InvalidParameter):
        cgroups.checked_path(path)


def test_writes_keep_their_order_and_name_what_is_missing(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    (memory / "x").mkdir(parents=True)
    (memory / "x" / "limit").write_text("")
    group = cgroups.existing(Layout({"memory": str(memory)}, "", frozenset()), "/x")
    group.apply([("memory", "limit", "1"), ("memory", "limit", "2")])
    assert (memory / "x" / "limit").read_text() == "12"
    with pytest.raises(InvalidParameter, match="pids controller is not available"):
        group.apply([("pids", "pids.max", "1")])
    with pytest.raises(InvalidParameter, match="no such file"):
        group.apply([("memory", "memory.nope", "1")])


def test_nothing_mounted() -> None:
    with pytest.raises(FileNotFoundError):
        cgroups.create(Layout({}, "", frozenset()), "/x")


@pytest.fixture
def group() -> Iterator[cgroups.Group]:
    here = cgroups.layout()
    parent = f"/skiff-unit-{uuid.uuid4().hex[:8]}"
    made = cgroups.create(here, f"{parent}/one")
    yield made
    made.signal_all(signal.SIGKILL)
    made.destroy()
    cgroups.existing(here, parent).destroy()
    assert not cgroups.existing(here, parent).exists()


def spawn_inside(group: cgroups.Group, argv: list[str]) -> int:
    """A child that joins by itself, as init does."""
    tickets = group.tickets()
    pid, pidfd = clone(cgroup=tickets.directory)
    if pid == 0:
        try:
            cgroups.join(tickets.tasks)
            os.execvp(argv[0], argv)
        finally:
            os._exit(127)
    tickets.close()
    os.close(pidfd)
    return pid


def wait_for_exec(pid: int, name: str) -> None:
    deadline = time.monotonic() + 5
    while name not in Path(f"/proc/{pid}/comm").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.root
def test_a_child_joins_freezes_and_is_killed(group: cgroups.Group) -> None:
    pid = spawn_inside(group, ["sleep", "60"])
    wait_for_exec(pid, "sleep")
    assert group.pids() == [pid]
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert all(line.endswith(group.path) for line in lines)
    group.freeze()
    assert group.is_frozen()
    group.signal_all(signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert group.pids() == []


@pytest.mark.root
def test_limits_can_be_read_back(group: cgroups.Group) -> None:
    if group.layout.version == 1:
        group.apply([("memory", "memory.limit_in_bytes", str(1 << 26))])
        assert group.read("memory", "memory.limit_in_bytes").strip() == str(1 << 26)
        assert "memory.usage_in_bytes" in group.figures()
    else:
        group.apply([("memory", "memory.max", str(1 << 26))])
        assert group.read("memory", "memory.max").strip() == str(1 << 26)
    with pytest.raises(OSError, match="write"):
        group.apply([("pids", "pids.max", "many")])


@pytest.mark.root
def test_running_out_of_memory_is_noticed(group: cgroups.Group) -> None:
    name = "memory.limit_in_bytes" if group.layout.version == 1 else "memory.max"
    group.apply([("memory", name, str(8 << 20))])
    if group.layout.version == 1:
        group.apply([("memory", "memory.memsw.limit_in_bytes", str(8 << 20))])
    watch = cgroups.OomWatch(group, group.oom_event())
    assert watch is not None
    try:
        assert not watch.happened()
        pid = spawn_inside(group, ["tail", "/dev/zero"])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert select.select([watch], [], [], 5)[0]
        assert watch.happened()
        assert not watch.happened()
        assert group.oom_kills() == 1
    finally:
        watch.close()


@pytest.mark.root
def test_groups_below_go_too(group: cgroups.Group) -> None:
    for directory in group.directories():
        os.makedirs(f"{directory}/a/b")
    group.destroy()
    assert not group.exists()
    group.destroy()  # twice is fine
