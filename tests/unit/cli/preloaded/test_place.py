"""What /proc says of a process, and what cannot be taken over."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiff.cli.preloaded.place import ABOVE, Place, status, variables
from skiff.linux import syscalls
from skiff.linux.libc import syscall

ROOT = Path(__file__).parents[4]


@pytest.fixture
def sleeper() -> Iterator[Callable[..., int]]:
    processes = []

    def start(*before: str, **how: object) -> int:
        process = subprocess.Popen([*before, "sleep", "60"], **how)  # type: ignore[call-overload]
        processes.append(process)
        while Path(f"/proc/{process.pid}/cmdline").read_bytes()[:5] != b"sleep":
            os.sched_yield()
        return int(process.pid)

    yield start
    for process in processes:
        process.kill()
        process.wait()


TAKE = """
import json, os, resource, signal, sys
sys.path.insert(0, sys.argv[2])
from skiff.cli.preloaded.place import Place, Refused
own = Place(os.getpid())
try:
    Place(int(sys.argv[1])).take(own)
except (Refused, PermissionError) as refused:
    os.write(int(sys.argv[3]), json.dumps(str(refused)).encode())
    os._exit(0)
mask = os.umask(0)
os.write(int(sys.argv[3]), json.dumps({
    "directory": os.getcwd(), "mask": mask, "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "nice": os.getpriority(os.PRIO_PROCESS, 0), "environment": dict(os.environ),
    "cpus": sorted(os.sched_getaffinity(0)),
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd") if int(n) < 1000), "errors": sys.stdout.errors,
    "scheduler": os.sched_getscheduler(0),
    "ignored": [n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN],
    "streams": [os.readlink(f"/proc/self/fd/{n}") for n in range(3)],
}).encode())
"""


def taken(pid: int) -> object:
    """What a process is that has taken that one's place, or why it cannot."""
    read, write = os.pipe()
    high = 1500
    os.dup2(write, high)
    with open(read, "rb") as result:
        subprocess.run(
            [sys.executable, "-c", TAKE, str(pid), str(ROOT / "src"), str(high)],
            pass_fds=[high],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        os.close(write)
        os.close(high)
        return json.load(result)


def test_all_of_it(sleeper: Callable[..., int], tmp_path: Path) -> None:
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    with open(tmp_path / "out", "wb") as out:
        pid = sleeper(
            *("sh", "-c", 'umask 027; ulimit -n 333; exec "$@"', "sh", "nice", "-n", "3", "taskset", "1"),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "A": "b=c", "O": "\udcff"},
            pass_fds=[other],
            stdout=out,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
    os.close(other)
    found = taken(pid)
    assert isinstance(found, dict)
    assert found["directory"] == str(tmp_path)
    assert found["mask"] == 0o027
    assert found["files"] == [333, 333]
    assert found["nice"] == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    assert found["cpus"] == [0]
    assert found["environment"].pop("PWD") == str(tmp_path)  # the shell's
    assert found["environment"] == {"PATH": os.environ["PATH"], "A": "b=c", "O": "\udcff"}
    assert found["streams"] == ["/dev/null", str(tmp_path / "out"), "/dev/null"]
    assert other in found["fds"]
    assert found["errors"] == "surrogateescape"


def test_what_it_ignores(sleeper: Callable[..., int]) -> None:
    def ignore() -> None:
        for number in (signal.SIGHUP, signal.SIGRTMIN + 3):
            signal.signal(number, signal.SIG_IGN)
        syscall(syscalls.number("rt_sigaction"), 32, struct.pack("=QQQQ", 1, 0, 0, 0), 0, 8)  # libc's own

    pid = sleeper(preexec_fn=ignore, restore_signals=False)
    assert int(status(Path(f"/proc/{pid}/status").read_bytes())["SigIgn"], 16) >> 31 & 1
    found = taken(pid)
    assert isinstance(found, dict)
    assert {signal.SIGHUP, signal.SIGRTMIN + 3} <= set(found["ignored"])


def test_its_scheduler(sleeper: Callable[..., int]) -> None:
    found = taken(sleeper("chrt", "--batch", "0"))
    assert isinstance(found, dict)
    assert found["scheduler"] == os.SCHED_BATCH
    assert taken(sleeper("chrt", "--idle", "0")) == "another scheduler"


def test_fewer_rights(sleeper: Callable[..., int]) -> None:
    assert taken(sleeper("setpriv", "--bounding-set", "-sys_chroot")) in (
        "other rights: CapPrm",
        "other rights: CapBnd",
    )
    assert taken(sleeper("setpriv", "--no-new-privs")) == "other rights: NoNewPrivs"


def test_another_user(sleeper: Callable[..., int]) -> None:
    assert taken(sleeper("setpriv", "--reuid", "1000", "--clear-groups")) in (
        "other rights: Uid",
        "[Errno 1] Operation not permitted",  # prlimit(2), without CAP_SYS_RESOURCE
    )


def test_other_namespaces(sleeper: Callable[..., int]) -> None:
    assert str(taken(sleeper("unshare", "--user"))).startswith("other rights")
    found = taken(sleeper("unshare", "--mount", "--net", "--uts"))
    assert isinstance(found, dict)


def test_another_root(sleeper: Callable[..., int], tmp_path: Path) -> None:
    for folder in ("bin", "lib", "lib64", "usr", "proc", "dev"):
        (tmp_path / folder).mkdir()
    script = f"cd {tmp_path}; for d in usr bin lib lib64; do mount --rbind /$d $d; done; "
    script += 'exec chroot . "$@"'
    assert taken(sleeper("unshare", "--mount", "sh", "-c", script, "sh")) == "another root"


def test_a_closed_stream_and_a_high_descriptor(sleeper: Callable[..., int]) -> None:
    why = "a stream is closed, or a descriptor is in the way"
    assert taken(sleeper("sh", "-c", 'exec "$@" <&-', "sh")) == why
    high = ABOVE + 5
    os.dup2(0, high)
    try:
        assert taken(sleeper(pass_fds=[high])) == why
    finally:
        os.close(high)


def test_nobody_of_that_number() -> None:
    with pytest.raises(OSError):
        Place(0x7FFFFFF0)


def test_status_has_names_and_values() -> None:
    assert status(b"Name:\tx: y\nUid:\t0\t0\n\n") == {"Name": "x: y", "Uid": "0\t0"}


def test_the_first_of_a_name_counts() -> None:
    assert variables(b"A=1\0B=x=y\0A=2\0nonsense\0C=\0") == {b"A": b"1", b"B": b"x=y", b"C": b""}


@given(st.binary())
def test_any_bytes(text: bytes) -> None:
    assert all("\n" not in value for value in status(text).values())
    assert all(b"\0" not in name + value and b"=" not in name for name, value in variables(text).items())
