"""Watching calls: what is told of them, and that nothing is different before and after."""

import gc
import os
import resource
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.linux import libc, mounts, namespaces, watching
from skiff.linux.watching import Recorder, Step, Target


def doors() -> list[object]:
    return [getattr(target.owner, target.attribute) for target in watching.kernel()]


@pytest.fixture(autouse=True)
def _nobody_tidies_up_meanwhile() -> Iterator[None]:
    """What other tests left is not to be collected while we watch."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def watched(act: object) -> list[Step]:
    steps: list[Step] = []
    mine = threading.get_ident()
    watching.watch(lambda step: steps.append(step) if threading.get_ident() == mine else None)
    try:
        act()  # type: ignore[operator]
    finally:
        watching.unwatch()
    return steps


def test_afterwards_everything_is_itself_again(tmp_path: Path) -> None:
    before = doors()
    steps: list[Step] = []
    watching.watch(steps.append)
    assert all(now is not was for now, was in zip(doors(), before, strict=True))
    watching.unwatch()
    assert all(now is was for now, was in zip(doors(), before, strict=True))
    os.mkdir(tmp_path / "untold")
    watching.unwatch()
    assert not any(str(tmp_path) in str(step.args) for step in steps)


def test_calls_are_told_with_their_times(tmp_path: Path) -> None:
    def act() -> None:
        os.mkdir(f"{tmp_path}/a", 0o700)
        os.symlink("/proc/self/fd/0", f"{tmp_path}/link")
        resource.setrlimit(resource.RLIMIT_CORE, resource.getrlimit(resource.RLIMIT_CORE))
        namespaces.unshare(0)
        with pytest.raises(OSError):
            mounts.mount("nothing", f"{tmp_path}/absent", "tmpfs", mounts.MS_RDONLY, "size=1k")

    steps = watched(act)
    assert [(step.name, step.args) for step in steps if step.name != "setrlimit"] == [
        ("os.mkdir", [f"{tmp_path}/a", 0o700]),
        ("os.symlink", ["/proc/self/fd/0", f"{tmp_path}/link"]),
        ("mount", ["nothing", f"{tmp_path}/absent", "tmpfs", 1, "size=1k"]),
    ]
    assert steps[-1].error == "No such file or directory"
    assert all(step.begin <= step.end and step.pid == os.getpid() for step in steps)
    assert [step.begin for step in steps] == sorted(step.begin for step in steps)


def test_errno_survives_the_telling(tmp_path: Path) -> None:
    def tell(step: Step) -> None:
        assert not os.path.exists("/nowhere")

    watching.watch(tell)
    try:
        with pytest.raises(FileNotFoundError):
            mounts.unmount(f"{tmp_path}/absent")
    finally:
        watching.unwatch()


def test_descriptors_are_paths(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)

    def act() -> None:
        os.mkdir("inside", dir_fd=fd)
        with pytest.raises(OSError):
            mounts.mount("/dev/null", f"/proc/self/fd/{fd}", None, mounts.MS_BIND)

    steps = watched(act)
    os.close(fd)
    assert steps[0].args[0] == f"{tmp_path}/inside"
    assert steps[1].args[1] == str(tmp_path)


def test_ordinary_reading_and_writing_is_not_told(tmp_path: Path) -> None:
    def act() -> None:
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x")
        os.close(fd)
        os.close(os.open(tmp_path / "file", os.O_RDONLY))

    assert [step.name for step in watched(act)] == ["os.open"]


def test_a_child_goes_on_telling_and_is_told_apart(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    watching.to_file(directory, "trace")
    watching.to_file(directory, "trace")  # once is enough
    child = os.fork()
    if child == 0:
        os.mkdir(f"{tmp_path}/by-the-child")
        os._exit(0)
    os.waitpid(child, 0)
    watching.end_file()
    watching.end_file()
    os.close(directory)
    steps = watching.from_file(f"{tmp_path}/trace")
    assert {(step.name, step.pid) for step in steps} == {("os.fork", os.getpid()), ("os.mkdir", child)}
    assert not (tmp_path / "trace").exists()
    assert watching.from_file(f"{tmp_path}/trace") == []


def test_without_a_name_nothing_is_watched(tmp_path: Path) -> None:
    before = doors()
    directory = os.open(tmp_path, os.O_RDONLY)
    watching.to_file(directory, "")
    os.close(directory)
    assert doors() == before
    assert os.listdir(tmp_path) == []


@given(st.binary(max_size=200))
def test_a_file_cut_short_or_spoilt_is_read_as_far_as_it_goes(junk: bytes) -> None:
    import tempfile

    good = b'["os.fork",[],1,2,3,""]'
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(good + b"\n" + junk + b"\n" + good + b"\n" + good[:9])
    steps = watching.from_file(file.name)
    assert steps[0] == Step("os.fork", [], 1, 2, 3)
    assert sum(step == Step("os.fork", [], 1, 2, 3) for step in steps) >= 2


def test_each_context_has_its_own_recorder(tmp_path: Path) -> None:
    one, other = Recorder("one", 10), Recorder("other", 2)
    watching.watch(watching.to_recorder)
    try:
        for recorder, names in ((one, "a"), (other, "bcd")):
            context = copy_context()
            context.run(watching.recorder.set, recorder)
            for name in names:
                context.run(os.mkdir, f"{tmp_path}/{name}")
        os.mkdir(f"{tmp_path}/nobody")
    finally:
        watching.unwatch()
    assert [step.args[0] for step in one.steps] == [f"{tmp_path}/a"]
    assert [step.args[0] for step in other.steps] == [
        f"{tmp_path}/b",
        f"{tmp_path}/c",
    ]  # no more than its limit


async def test_methods_and_coroutines() -> None:
    class Thing:
        async def act(self, name: str) -> str:
            return name.upper()

        def fail(self) -> None:
            raise ValueError("it cannot")

    steps: list[Step] = []
    targets = [
        Target(Thing, "act", "thing.act", method=True),
        Target(Thing, "fail", "thing.fail", method=True),
    ]
    watching.watch(steps.append, targets)
    try:
        assert await Thing().act("x") == "X"
        with pytest.raises(ValueError):
            Thing().fail()
    finally:
        watching.unwatch()
    assert [(step.name, step.args, step.error) for step in steps] == [
        ("thing.act", ["x"], ""),
        ("thing.fail", [], "it cannot"),
    ]


def test_system_calls_of_no_interest_are_not_told() -> None:
    number = {"x86_64": 39, "aarch64": 172}[os.uname().machine]
    assert watched(lambda: libc.syscall(number)) == []


def test_a_call_of_an_unknown_shape_goes_through() -> None:
    class Thing:
        def act(self, fd: object) -> object:
            return fd

    class Odd:
        @property
        def value(self) -> object:
            raise AttributeError

        def __index__(self) -> int:
            raise TypeError

    odd = Odd()
    steps: list[Step] = []
    watching.watch(steps.append, [Target(Thing, "act", "thing.act", (0,), method=True)])
    try:
        assert Thing().act(odd) is odd
    finally:
        watching.unwatch()
    assert [step.name for step in steps] == ["thing.act"]
